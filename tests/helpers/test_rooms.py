"""Test modules do not import each other: shared code is in tests/helpers."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parents[1]
NAMED = re.compile(r"(tests(?:\.\w+)+):\w+")  # a callable in a setting: tests.folder.module:callable


def module(path: Path) -> str:
    return ".".join(("tests", *path.relative_to(TESTS).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {module(path): path for path in TESTS.rglob("*.py")}


def room(name: str) -> str:
    """Return the folder within tests; empty for a module at its root."""
    parts = name.split(".")
    is_folder = MODULES.get(name, TESTS).name == "__init__.py"
    return parts[1] if len(parts) > 2 or is_folder else ""


@cache
def references(path: Path) -> set[str]:
    """Return the modules of tests that a file imports, or names in a string for another process to import."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from tests.folder import name`: the name may be a module, or defined in one
            found.update({f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys() or {node.module})
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and (named := NAMED.fullmatch(node.value)):
            found.add(named[1])
    return {name for name in found if name.split(".")[0] == "tests"}


def test_no_module_imports_from_a_test_module() -> None:
    wrong = [
        f"{name} imports {imported}"
        for name, path in MODULES.items()
        for imported in references(path)
        if imported.rpartition(".")[2].startswith("test_") and imported != name
    ]
    assert wrong == [], "move what is shared to tests/helpers"


def test_what_several_rooms_need_is_in_helpers() -> None:
    wrong = [
        f"{name} imports {imported}"
        for name, path in MODULES.items()
        for imported in references(path)
        if room(imported) not in ("helpers", room(name))
    ]
    assert wrong == [], "move what is shared to tests/helpers"


def test_every_reference_is_found() -> None:
    """If the search found nothing, the tests above would always pass."""
    assert "tests.helpers.service" in references(MODULES["tests.chaos.test_faults"])
    assert "tests.helpers.command" in references(MODULES["tests.helpers.command"])
