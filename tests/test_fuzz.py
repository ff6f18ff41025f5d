"""A short run of tests/fuzz.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fuzz import PROPERTIES, fuzz

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("check", PROPERTIES)
def test_nothing_is_found_in_a_short_while(check: Callable[[], None]) -> None:
    fuzz(check, 200)
