"""The arrows, as law: who may import whom, and the one file that may import each vendor."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

VENDORS = {
    "janus": "bridge/channel.py",
    "rev_ai": "app/engines/rev.py",
    "websocket": "app/engines/rev.py",
    "pocketsphinx": "app/recognizer/sphinx.py",
    "soxr": "app/audio.py",
    "numpy": "app/audio.py",
    "soundfile": "app/transcribe.py",
    "rich": "app/transcribe.py",
    "websockets.asyncio.client": "app/client.py",
    "websockets.asyncio.server": "app/recognizer/server.py",
    "uvicorn": "app/server.py",
    "pydantic_settings": "app/settings.py",
}

# A room may import those above it, never those below. `app.recognizer` is another process: of ours it knows the wire.
ROOMS = [
    ["bridge", "app.wire", "app.captions", "app.audio", "app.settings"],
    ["app.engines"],
    ["app.session"],
    ["app.endpoints"],
    ["app.main"],
    ["app.server", "app.client"],
    ["app.transcribe"],
    ["app.cli"],
]


def modules() -> dict[str, Path]:
    found = {}
    for package in ("app", "bridge"):
        for path in (ROOT / package).rglob("*.py"):
            found[".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def within(name: str, room: str) -> bool:
    return name == room or name.startswith(room + ".")


def level(name: str) -> int | None:
    return next((n for n, rooms in enumerate(ROOMS) if any(within(name, room) for room in rooms)), None)


def test_12_the_bridge_knows_the_standard_library_and_janus_only() -> None:
    for name, path in modules().items():
        if within(name, "bridge"):
            for imported in imports(path):
                assert imported.split(".")[0] in sys.stdlib_module_names | {"bridge", "janus"}, f"{name}: {imported}"


@pytest.mark.parametrize("vendor", VENDORS)
def test_one_file_imports_each_vendor(vendor: str) -> None:
    importers = {
        str(path.relative_to(ROOT))
        for path in modules().values()
        if any(within(name, vendor) for name in imports(path))
    }
    assert importers == {VENDORS[vendor]}


def test_arrows_run_one_way() -> None:
    for name, path in modules().items():
        own = level(name)
        for imported in imports(path):
            target = level(imported)
            if within(name, "app.recognizer"):
                assert not imported.startswith("app.") or any(
                    within(imported, room) for room in ("app.wire", "app.audio", "app.recognizer")
                ), f"{name} imports {imported}"
            elif own is not None and target is not None and not within(imported, ".".join(name.split(".")[:2])):
                assert target < own or (target == own == 0 and not within(name, "bridge")), f"{name} imports {imported}"


def test_every_module_has_its_place() -> None:
    """A new file is put into a room above, on purpose."""
    placeless = [
        name for name in modules() if level(name) is None and not within(name, "app.recognizer") and name != "app"
    ]
    assert placeless == []
