"""Imports functions that settings name as `package.module:callable`, and hides modules from libraries."""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def load(path: str) -> Callable[..., Any]:
    """Import `package.module:callable`, also from the working directory. Raises ValueError that says what is wrong."""
    module_name, _, name = path.partition(":")
    if not (module_name and name):
        raise ValueError(f"{path!r} is not of the form package.module:callable")
    try:
        with _working_directory_first():
            found: Any = importlib.import_module(module_name)
            for part in name.split("."):
                found = getattr(found, part)
    except Exception as error:  # a user's module may raise anything while it is imported
        raise ValueError(f"{path!r} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ValueError(f"{path!r} is not callable")  # noqa: TRY004 # a wrong setting, whatever its type
    return found  # type: ignore[no-any-return] # what it takes and returns is its author's promise


@contextmanager
def _working_directory_first() -> Iterator[None]:
    """Search the working directory for modules first, as `python -m` does; a console script does not search it at all.

    Afterwards it is searched last. So modules that the user's module imports later are still found, but a file of the
    user's that is named like a library (websockets.py, say) does not replace one that uvicorn imports later.
    """
    here = str(Path.cwd())
    was_there = here in sys.path or "" in sys.path
    if not was_there:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        if not was_there:
            sys.path.remove(here)
            sys.path.append(here)


@contextmanager
def hidden(name: str) -> Iterator[None]:
    """Make the import of a module fail within the context, so that a library does without it.

    It has no effect if the module is imported already.
    """
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment] # as documented: importing it then fails
    try:
        yield
    finally:
        del sys.modules[name]
