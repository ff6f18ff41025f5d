"""PortAudio that is missing: a fault on a desk, and none in a container."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from speechbridge.cli.doctor import machine
from speechbridge.cli.doctor.findings import Case, Finding, Mark, Report
from speechbridge.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

PORTAUDIO_MISSING = "raise OSError('PortAudio library not found')"
"""What sounddevice does where PortAudio is not installed."""


@pytest.fixture(autouse=True)
def on_a_desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have neither PortAudio nor a sign of a container, wherever the test runs."""
    (tmp_path / "sounddevice.py").write_text(PORTAUDIO_MISSING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(machine, "CONTAINER_FILES", (str(tmp_path / ".dockerenv"),))
    for name in machine.CONTAINER_VARIABLES:
        monkeypatch.delenv(name, raising=False)


async def finding() -> Finding:
    report = Report("microphone")
    await machine.microphone(Case(Settings.read()), report)
    (found,) = report.findings
    return found


async def test_portaudio_that_is_missing() -> None:
    found = await finding()
    assert (found.mark, found.found) == (Mark.WRONG, "PortAudio is missing")
    assert found.cure.startswith("install it, with apt-get install")


async def test_in_a_container_it_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / ".dockerenv").touch()
    assert (await finding()).mark is Mark.NOTE


@pytest.mark.parametrize("name", machine.CONTAINER_VARIABLES)
async def test_a_container_is_known_by_its_variables(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "podman")
    assert (await finding()).mark is Mark.NOTE
