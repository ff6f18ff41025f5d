"""Functions that settings name."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import pytest

from speechbridge.loading import load

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def console_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder that Python does not look into for modules, as a console script does."""
    here = tmp_path / "project"
    here.mkdir()
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.chdir(here)
    return here


def test_a_path_is_imported_also_from_the_working_directory(console_script: Path) -> None:
    (console_script / "my_sdk.py").write_text("class Client:\n    def start(audio): yield 'hello'\n")
    assert list(load("my_sdk:Client.start")(iter([]))) == ["hello"]


def test_a_module_of_the_working_directory_comes_before_a_library_of_its_name(console_script: Path) -> None:
    sys.modules.pop("this", None)
    (console_script / "this.py").write_text("start = iter")
    assert load("this:start") is iter


def test_a_file_named_like_a_library_does_not_replace_it_afterwards(console_script: Path) -> None:
    """Or what a library imports when it is first used, as uvicorn does, would be the user's file."""
    sys.modules.pop("tabnanny", None)
    (console_script / "my_sdk.py").write_text("start = iter")
    (console_script / "tabnanny.py").touch()
    (console_script / "later.py").touch()
    load("my_sdk:start")
    assert "check" in vars(importlib.import_module("tabnanny"))  # the standard library's
    assert importlib.import_module("later").__file__ == str(console_script / "later.py")


def test_loading_twice_leaves_one_entry(console_script: Path) -> None:
    (console_script / "my_sdk.py").write_text("start = iter")
    load("my_sdk:start")
    load("my_sdk:start")
    assert sys.path.count(str(console_script)) == 1


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("json.loads", "package.module:callable"),
        ("json:", "package.module:callable"),
        ("no_such_module:start", "No module named"),
        ("json:no_such_name", "no attribute"),
        ("json:__name__", "not callable"),
    ],
)
def test_a_wrong_path_says_what_is_wrong(path: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load(path)
