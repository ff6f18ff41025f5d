"""The public names: what `import speechbridge` gives, and what it must not load."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from types import ModuleType

import pytest

import speechbridge
from speechbridge import __all__ as public

# A user of the client has no use for these, and each costs tens of milliseconds or megabytes.
NOT_LOADED = ("anyio", "fastapi", "janus", "numpy", "pydantic", "rev_ai", "rich", "starlette", "typer", "uvicorn")

CPU = 0.2  # seconds, on a machine of 2024; this leaves room for a slow one


def run(program: str) -> str:
    """Run a program in a fresh interpreter; return what it printed."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", public)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(speechbridge, name) is not None
    assert name in dir(speechbridge)
    assert not isinstance(getattr(speechbridge, name), ModuleType)


def test_the_version_is_that_of_the_installed_package() -> None:
    assert speechbridge.__version__ == version("live-speech-bridge")


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'conect'"):
        speechbridge.conect  # type: ignore[attr-defined] # noqa: B018 # what is tested


@pytest.mark.parametrize(
    "program", ["import speechbridge", "from speechbridge import ContentType, StreamRequest, connect"]
)
def test_a_client_loads_nothing_of_the_service(program: str) -> None:
    loaded = set(run(f"{program}; import sys; print(*sys.modules)").split())
    assert loaded.isdisjoint(NOT_LOADED)
    assert "speechbridge.protocol.request" in loaded or program == "import speechbridge"


def test_the_import_is_cheap() -> None:
    used = run("import speechbridge, time; from speechbridge import __version__; print(time.process_time())")
    assert float(used) < CPU
