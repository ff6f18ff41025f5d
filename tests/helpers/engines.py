"""What tests of engines share: the examples of the docs, and the rules of resumable streams."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechbridge.engines import reconnect
from syncbridge import Resumable

if TYPE_CHECKING:
    import pytest

    from syncbridge import Resumption


def example(title: str) -> str:
    """Return the Python under a heading of docs/engines.md."""
    page = (Path(__file__).parents[2] / "docs" / "engines.md").read_text()
    found = re.search(rf"^## {title}$.*?^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def rules_given(monkeypatch: pytest.MonkeyPatch) -> list[Resumption[str]]:
    """Return the list to which the rules of each stream that is made resumable are added."""
    rules: list[Resumption[str]] = []
    real = Resumable[str]

    def remember(connect: Any, given: Resumption[str]) -> Resumable[str]:
        rules.append(given)
        return real(connect, given)

    monkeypatch.setattr(reconnect, "Resumable", remember)
    return rules
