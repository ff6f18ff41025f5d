"""Memory, descriptors and threads against SPEECHBRIDGE_MAX_SESSIONS."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from speechbridge.cli.doctor import resources
from speechbridge.cli.doctor.findings import Case, Mark, Report
from speechbridge.settings import Settings

if TYPE_CHECKING:
    import pytest

MIB = 2**20
DEPLOYMENT = Path(__file__).parents[3] / "docs" / "deployment.md"


def case(**settings: object) -> Case:
    return Case(Settings.read(start="any:function", **settings))


async def memory(free: int | None, monkeypatch: pytest.MonkeyPatch, **settings: object) -> tuple[Mark, str]:
    monkeypatch.setattr(resources, "free_memory", lambda: free)
    report = Report("memory")
    await resources.memory(case(**settings), report)
    (finding,) = report.findings
    return finding.mark, finding.found


async def test_memory_is_enough_scarce_at_worst_or_too_little(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await memory(900 * MIB, monkeypatch) == (
        Mark.OK,
        "200 streams (SPEECHBRIDGE_MAX_SESSIONS) take 300 MB, 900 MB at worst, and 900 MB are free",
    )
    assert (await memory(300 * MIB, monkeypatch))[0] is Mark.NOTE
    assert (await memory(200 * MIB, monkeypatch))[0] is Mark.WRONG
    assert (await memory(200 * MIB, monkeypatch, max_sessions=10))[0] is Mark.OK
    assert (await memory(None, monkeypatch))[0] is Mark.NOTE


async def test_a_recognizer_that_is_only_the_fallback_takes_memory_too(monkeypatch: pytest.MonkeyPatch) -> None:
    _, alone = await memory(900 * MIB, monkeypatch)
    _, with_fallback = await memory(900 * MIB, monkeypatch, fallback="embedded", recognizer_streams=10)
    assert "recognizer" not in alone
    assert "and 10 in the recognizer take 525 MB" in with_fallback


async def test_the_embedded_recognizer_s_streams_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    _, found = await memory(9000 * MIB, monkeypatch, max_sessions=10, recognizer_streams=3)
    assert "in the recognizer" not in found
    monkeypatch.setattr(resources, "free_memory", lambda: 250 * MIB)
    report = Report("memory")
    await resources.memory(Case(Settings.read(max_sessions=10, recognizer_streams=3)), report)
    assert report.findings[0].mark is Mark.WRONG
    assert "and 3 in the recognizer take 321 MB" in report.findings[0].found


def test_the_figures_are_those_of_the_docs() -> None:
    text = DEPLOYMENT.read_text()
    assert f"| the service | {resources.SERVICE // MIB} MB, plus {resources.STREAM // MIB} MB a stream |" in text
    per_stream = resources.RECOGNIZED_STREAM // MIB
    assert f"| the recognizer | {resources.RECOGNIZER // MIB} MB, plus {per_stream} MB for each" in text
    assert f"a stream takes {resources.STREAM_AT_WORST // MIB} MB" in text


def group(folder: Path, monkeypatch: pytest.MonkeyPatch, **files: str) -> None:
    for name, content in files.items():
        (folder / name).write_text(content)
    monkeypatch.setattr(resources, "GROUP_MEMORY", ((str(folder / "max"), str(folder / "current")),))
    monkeypatch.setattr(resources, "GROUP_CACHE", ((str(folder / "stat"), "inactive_file"),))


def test_a_container_has_what_its_limit_leaves_and_what_can_be_reclaimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group(
        tmp_path,
        monkeypatch,
        max=f"{512 * MIB}\n",
        current=f"{400 * MIB}\n",
        stat=f"anon 1\ninactive_file {100 * MIB}\n",
    )
    assert resources.free_memory() == 212 * MIB


def test_a_container_without_a_limit_has_what_the_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group(tmp_path, monkeypatch, max="max\n", current="1\n")
    free = resources.free_memory()
    assert free is None or free > MIB
