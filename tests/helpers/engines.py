"""Shared by tests of engines: the examples of the docs, and the rules of resumable streams."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechbridge.engines import reconnect
from syncbridge import Resumable

if TYPE_CHECKING:
    import pytest

    from syncbridge import Resumption


def example(title: str, number: int = 0) -> str:
    """Return the first Python under a heading of docs/engines.md, or a later one."""
    page = (Path(__file__).parents[2] / "docs" / "engines.md").read_text()
    [section] = re.findall(rf"^## {title}$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    return str(re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)[number])


def rules_given(monkeypatch: pytest.MonkeyPatch) -> list[Resumption[str]]:
    """Return the list to which the rules of each stream that is made resumable are added."""
    rules: list[Resumption[str]] = []
    real = Resumable[str]

    def remember(connect: Any, given: Resumption[str]) -> Resumable[str]:
        rules.append(given)
        return real(connect, given)

    monkeypatch.setattr(reconnect, "Resumable", remember)
    return rules
