"""A short run of tests/fuzz.py."""

from __future__ import annotations

import pytest

from tests.fuzz import CODECS, FILES, PROPERTIES, Property, fuzz
from tests.helpers.fuzzing import ENTRIES

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("tried", PROPERTIES, ids=lambda tried: tried.holds.__name__)
def test_nothing_is_found_in_a_short_while(tried: Property) -> None:
    fuzz(tried, 200)


@pytest.mark.parametrize("tried", CODECS, ids=sorted(ENTRIES))
def test_nothing_is_found_in_spoilt_audio(tried: Property) -> None:
    fuzz(tried, 50)


def test_nothing_is_found_in_spoilt_files() -> None:
    fuzz(FILES, 50)
