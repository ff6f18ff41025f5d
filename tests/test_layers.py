"""The arrows, as law: which room may import which, and the one file that may import each vendor."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"speechbridge": ROOT / "app", "syncbridge": ROOT / "bridge"}

VENDORS = {
    "janus": "syncbridge.channel",
    "numpy": "speechbridge.audio",
    "pocketsphinx": "speechbridge.recognizer.sphinx",
    "prometheus_client": "speechbridge.server.metrics",
    "pydantic_settings": "speechbridge.settings",
    "pythonjsonlogger": "speechbridge.logs",
    "rev_ai": "speechbridge.engines.rev",
    "rich": "speechbridge.cli.screen",
    "sounddevice": "speechbridge.cli.microphone",
    "soundfile": "speechbridge.cli.transcribe",
    "soxr": "speechbridge.audio",
    "throttled": "speechbridge.server.limits",
    "uvicorn": "speechbridge.server.websocket",
    "websocket": "speechbridge.engines.rev_socket",
    "websockets.asyncio.client": "speechbridge.client.dial",
    "websockets.asyncio.server": "speechbridge.recognizer.server",
    "websockets.speedups": "speechbridge.engines.rev_socket",
}

# What each room may import beside itself and the small rooms.
SMALL = {"audio", "backoff", "loading", "logs", "settings", "tasks"}
ROOMS: dict[str, set[str]] = {
    "protocol": set(),
    "client": {"protocol", "syncbridge"},
    "engines": {"protocol", "syncbridge"},
    "recognizer": {"protocol"},
    "server": {"protocol", "client", "engines", "syncbridge"},
    "cli": {"protocol", "client", "server"},
    "testing": {"protocol", "engines", "recognizer"},
    "__main__": {"cli"},
}


def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__"): path
        for package, source in PACKAGES.items()
        for path in (source / package).rglob("*.py")
    }


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


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def room(name: str) -> str:
    """Return the room of a module: what comes after `speechbridge`, or `syncbridge`; empty for neither."""
    package, _, rest = name.partition(".")
    return rest.partition(".")[0] if package == "speechbridge" else package if package == "syncbridge" else ""


def test_12_the_bridge_knows_the_standard_library_and_janus_only() -> None:
    for name, path in modules().items():
        if within(name, "syncbridge"):
            for imported in imports(path):
                assert imported.split(".")[0] in sys.stdlib_module_names | {"syncbridge", "janus"}, (
                    f"{name}: {imported}"
                )


@pytest.mark.parametrize("vendor", VENDORS)
def test_one_file_imports_each_vendor(vendor: str) -> None:
    importers = {name for name, path in modules().items() if any(within(found, vendor) for found in imports(path))}
    assert importers == {VENDORS[vendor]}


def test_arrows_run_one_way() -> None:
    for name, path in modules().items():
        own = room(name)
        if within(name, "syncbridge") or not own:
            continue
        allowed = ROOMS.get(own, {"protocol"}) | SMALL | {own}  # a small room knows small rooms and the protocol
        for imported in imports(path):
            target = room(imported)
            is_ours = any(within(imported, package) for package in PACKAGES)
            assert not is_ours or not target or target in allowed, f"{name} imports {imported}"


def test_every_module_has_its_place() -> None:
    """A new file is put into a room above, on purpose."""
    known = SMALL | set(ROOMS) | {"syncbridge", ""}
    assert {room(name) for name in modules()} == known
