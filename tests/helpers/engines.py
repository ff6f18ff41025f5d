"""What tests of engines share: the examples of the docs, and how often an engine misbehaves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from speechbridge.testing.conformance import Behaviour

if TYPE_CHECKING:
    from collections.abc import Iterator


def example(title: str) -> str:
    """Return the Python under a heading of docs/engines.md."""
    page = (Path(__file__).parents[2] / "docs" / "engines.md").read_text()
    found = re.search(rf"^## {title}$.*?^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def from_now_on(behaviour: Behaviour) -> Iterator[Behaviour]:
    """Yield how each connection behaves: as told at first, well afterwards; one that refuses goes on refusing."""
    yield behaviour
    while True:
        yield behaviour if behaviour is Behaviour.REFUSES else Behaviour.ANSWERS
