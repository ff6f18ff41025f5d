"""The arrows, as law: which room may import which, and the one file that may import each vendor."""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"speechbridge": ROOT / "app", "syncbridge": ROOT / "bridge"}

VENDORS = {
    "av": "speechbridge.codecs.codec",
    "av.container": "speechbridge.codecs.files",
    "google.auth": "speechbridge.engines.google",
    "grpc": "speechbridge.engines.grpc_call",
    "janus": "syncbridge.channel",
    "onnxruntime": "speechbridge.recognizer.models",
    "pocketsphinx": "speechbridge.recognizer.align",
    "profanex": "speechbridge.recognizer.profanity",
    "prometheus_client": "speechbridge.server.metrics",
    "pydantic_settings": "speechbridge.settings",
    "python_multipart": "speechbridge.server.multipart",
    "pythonjsonlogger": "speechbridge.logs",
    "redis": "speechbridge.cluster.redis.connection",
    "rev_ai": "speechbridge.engines.rev_stream",
    "riva": "speechbridge.engines.riva",
    "rich": "speechbridge.cli.screen",
    "sounddevice": "speechbridge.cli.microphone",
    "segno": "speechbridge.server.endpoints.read",
    "soundfile": "speechbridge.cli.recording",
    "soxr": "speechbridge.audio",
    "throttled": "speechbridge.server.limits",
    "uvicorn": "speechbridge.server.websocket",
    "uvicorn.protocols.http": "speechbridge.server.http",
    "websocket": "speechbridge.engines.rev_socket",
    "websockets.asyncio.client": "speechbridge.client.dial",
    "websockets.asyncio.server": "speechbridge.recognizer.server",
    "websockets.speedups": "speechbridge.engines.rev_frames",
}

# Servers that stand in for a vendor's, of its own protos.
FAKES = {"grpc": {"speechbridge.testing.grpc_services"}}

# Small rooms import nothing of ours, and may be imported by every room but syncbridge.
SMALL = {"audio", "backoff", "blocking", "cores", "init", "loading", "logs", "tasks"}

# What else each room may import. An arrow leads only to a room that stands above it, so there can be no circle.
ROOMS: dict[str, set[str]] = {
    "syncbridge": set(),
    "protocol": set(),
    "settings": {"protocol"},
    "cluster": {"protocol", "syncbridge", "settings"},
    "client": {"protocol", "syncbridge"},
    "speechbridge": {"protocol", "client"},  # the package itself: its public names
    "codecs": {"protocol"},
    "engines": {"protocol", "syncbridge"},
    "recognizer": {"protocol"},
    "server": {"protocol", "syncbridge", "settings", "client", "cluster", "codecs", "engines"},
    "testing": {"protocol", "syncbridge", "client", "engines", "recognizer"},
    "cli": {"protocol", "settings", "client", "engines", "server", "testing"},
    "__main__": {"cli"},
}

LINES = 400  # a file of ours has at most


@cache
def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__"): path
        for package, source in PACKAGES.items()
        for path in (source / package).rglob("*.py")
    }


@cache
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
    """Return the room of a module of ours: `speechbridge`, what comes after it, or `syncbridge`; empty for others."""
    package, _, rest = name.partition(".")
    return "" if package not in PACKAGES else rest.partition(".")[0] if rest and package == "speechbridge" else package


def test_12_the_bridge_knows_the_standard_library_and_janus_only() -> None:
    for name, path in modules().items():
        if within(name, "syncbridge"):
            for imported in imports(path):
                assert imported.split(".")[0] in sys.stdlib_module_names | {"syncbridge", "janus"}, (
                    f"{name}: {imported}"
                )


def test_only_audio_and_the_recognizer_compute_with_numpy() -> None:
    importers = {name for name, path in modules().items() if any(within(found, "numpy") for found in imports(path))}
    assert {room(name) for name in importers} == {"audio", "recognizer"}


@pytest.mark.parametrize("vendor", VENDORS)
def test_one_file_imports_each_vendor(vendor: str) -> None:
    parts = [part for part in VENDORS if part != vendor and within(part, vendor)]  # each has a file of its own

    def is_it(imported: str) -> bool:
        return within(imported, vendor) and not any(within(imported, part) for part in parts)

    importers = {name for name, path in modules().items() if any(map(is_it, imports(path)))}
    assert importers - FAKES.get(vendor, set()) == {VENDORS[vendor]}


def test_imports_follow_the_arrows() -> None:
    known = {room(name) for name in modules()}
    for name, path in modules().items():
        own = room(name)
        allowed = {own} | (set() if own in SMALL else ROOMS[own] if own == "syncbridge" else ROOMS[own] | SMALL)
        for imported in imports(path):
            target = room(imported)
            if target in known - {"speechbridge"}:  # or it is a name of the package itself, which brings no room along
                assert target in allowed, f"{name} imports {imported}"


def test_arrows_run_one_way() -> None:
    above: set[str] = set()
    for name, allowed in ROOMS.items():
        assert allowed <= above, f"{name} may import only what stands above it"
        above.add(name)


def test_every_module_has_its_place() -> None:
    """A new file is put into a room above, on purpose."""
    assert {room(name) for name in modules()} == SMALL | set(ROOMS)


def test_no_file_of_ours_is_too_long_to_be_read_at_once() -> None:
    sources = [path for source in PACKAGES.values() for end in ("*.py", "*.mjs") for path in source.rglob(end)]
    assert len(sources) > 80
    long = {
        str(path.relative_to(ROOT)): count for path in sources if (count := len(path.read_text().splitlines())) > LINES
    }
    assert not long


@pytest.mark.parametrize("engine", ["embedded", "function", "google", "google_config", "rev", "riva"])
def test_an_engine_is_read_in_one_sitting(engine: str) -> None:
    """What several engines have in common, and what corrects an SDK's transport, stands beside them."""
    path = PACKAGES["speechbridge"] / "speechbridge" / "engines" / f"{engine}.py"
    assert len(path.read_text().splitlines()) < 120
