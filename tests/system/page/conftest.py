"""Which engine a test of the page runs in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers.browser import ENGINE

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """Chromium, unless the test is marked `every_engine`."""
    name = getattr(request, "param", "chromium")
    token = ENGINE.set(name)
    yield name
    ENGINE.reset(token)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests here that run in another browser than Chromium. `items` are those of all folders."""
    for item in items:
        parameters = getattr(item, "callspec", None)
        is_other = parameters is not None and parameters.params.get("engine", "chromium") != "chromium"
        if is_other and HERE in item.path.parents:
            item.add_marker(pytest.mark.other_browser)
