"""Which engine a test of the page runs in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.helpers.browser import ENGINE

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """Chromium, unless the test is marked `every_engine`."""
    name = getattr(request, "param", "chromium")
    token = ENGINE.set(name)
    yield name
    ENGINE.reset(token)
