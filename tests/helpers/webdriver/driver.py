"""The interface to a browser, and what both forms of WebDriver share: input actions and scripts."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

SPECIAL = {
    "Space": " ",
    "Tab": "\ue004",
    "Enter": "\ue007",
    "Shift": "\ue008",
    "Control": "\ue009",
    "Escape": "\ue00c",
    "ArrowLeft": "\ue012",
    "ArrowUp": "\ue013",
    "ArrowRight": "\ue014",
    "ArrowDown": "\ue015",
    "Delete": "\ue017",
    "Backspace": "\ue003",
}

Actions = list[dict[str, Any]]


class Driver(Protocol):
    """A browser. A tab is identified by the return value of `open_tab`."""

    async def open_tab(self) -> str: ...
    async def close_tab(self, tab: str) -> None: ...
    async def navigate(self, tab: str, url: str, before: str) -> None: ...
    async def run(self, tab: str, script: str) -> Any: ...
    async def act(self, tab: str, actions: Actions) -> None: ...
    async def set_files(self, tab: str, script: str, files: Sequence[Path]) -> None: ...
    async def resize(self, tab: str, width: int, height: int) -> None: ...
    async def activate(self, tab: str) -> None: ...
    async def kill_tabs(self) -> None: ...
    async def screenshot(self, tab: str) -> bytes: ...


def kill_children(of: int, name: str) -> None:
    """Kill the descendants of a process whose command line contains `name`."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    for process, parent in parents.items():
        ancestor: int | None = parent
        while ancestor is not None and ancestor != of:
            ancestor = parents.get(ancestor)
        with suppress(OSError):
            if ancestor == of and name in Path(f"/proc/{process}/cmdline").read_text().replace("\0", " "):
                os.kill(process, signal.SIGKILL)


def press(name: str) -> Actions:
    """Return the actions that press a key, or several keys together: `Shift+Tab`."""
    keys = [name] if len(name) == 1 else [SPECIAL.get(key, key) for key in name.split("+")]
    down = [{"type": "keyDown", "value": key} for key in keys]
    up = [{"type": "keyUp", "value": key} for key in reversed(keys)]
    return [{"type": "key", "id": "keyboard", "actions": down + up}]


def move(x: float, y: float, *, click: bool = False) -> Actions:
    """Return the actions that move the mouse to a point, in CSS pixels from the corner of the page, and may click."""
    moved = {"type": "pointerMove", "x": round(x), "y": round(y), "duration": 0}
    pressed = [{"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}] if click else []
    mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}}
    return [mouse | {"actions": [moved, *pressed]}]


def value_of(expression: str, argument: object = None) -> str:
    """Return the body of an async function that evaluates an expression as Playwright does, and returns JSON."""
    expression = expression.strip().removesuffix(";")
    return (
        f"const evaluated = ({expression}\n);"
        f"const value = await (typeof evaluated === 'function' ? evaluated({json.dumps(argument)}) : evaluated);"
        "return JSON.stringify(value) ?? 'null';"
    )
