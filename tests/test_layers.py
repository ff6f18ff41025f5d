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
    "wsaccel": "app/engines/rev.py",
    "pocketsphinx": "app/recognizer/sphinx.py",
    "soxr": "app/audio.py",
    "numpy": "app/audio.py",
    "soundfile": "app/transcribe.py",
    "sounddevice": "app/mic.py",
    "rich": "app/terminal.py",
    "websockets.asyncio.client": "app/dial.py",
    "websockets.asyncio.server": "app/recognizer/server.py",
    "uvicorn": "app/server.py",
    "pydantic_settings": "app/settings.py",
    "throttled": "app/admission.py",
    "prometheus_client": "app/telemetry.py",
    "pythonjsonlogger": "app/logs.py",
}

# A room may import those above it, never those below; those of the first line may import each other.
ROOMS = [
    [
        "bridge",
        "app.wire",
        "app.captions",
        "app.audio",
        "app.settings",
        "app.dial",
        "app.logs",
        "app.tally",
        "app.admission",
    ],
    ["app.engines"],
    ["app.processors"],
    ["app.session", "app.durable"],
    ["app.telemetry"],
    ["app.endpoints"],
    ["app.main"],
    ["app.server", "app.client"],
    ["app.local", "app.lasting"],
    ["app.flows", "app.terminal"],
    ["app.transcribe", "app.send", "app.mic"],
    ["app.cli"],
]


def modules() -> dict[str, Path]:
    found = {}
    for package in ("app", "bridge"):
        for path in (ROOT / package).rglob("*.py"):
            found[".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


def imports(path: Path) -> set[str]:
    """Name what a file imports when it runs; what only type checkers read binds nothing."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def within(name: str, room: str) -> bool:
    return name == room or name.startswith(room + ".")


def room_of(name: str) -> tuple[int, str] | None:
    return next(((n, room) for n, rooms in enumerate(ROOMS) for room in rooms if within(name, room)), None)


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
        own = room_of(name)
        for imported in imports(path):
            target = room_of(imported)
            if own and target and own != target:
                assert target[0] < own[0] or target[0] == own[0] == 0, f"{name} imports {imported}"


def test_the_recognizer_is_another_process_and_knows_the_wire_the_audio_and_the_logs_only() -> None:
    for name, path in modules().items():
        if within(name, "app.recognizer"):
            for imported in imports(path):
                known = imported == "app" or any(
                    within(imported, room) for room in ("app.wire", "app.audio", "app.logs", "app.recognizer")
                )
                assert known or not within(imported, "app"), f"{name} imports {imported}"


def test_every_module_has_its_place() -> None:
    """A new file is put into a room above, on purpose."""
    placeless = [
        name for name in modules() if room_of(name) is None and not within(name, "app.recognizer") and name != "app"
    ]
    assert placeless == []
