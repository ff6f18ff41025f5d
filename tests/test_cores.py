"""Which cores processes keep to."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from speechbridge import cores

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this platform has no affinity")

SHOW = "import os; print(sorted(os.sched_getaffinity(0)))"


def process(folder: Path, number: int, allowed: str, *, is_kernels: bool = False) -> None:
    (folder / str(number)).mkdir()
    memory = "" if is_kernels else "VmRSS:\t  100 kB\n"
    (folder / str(number) / "status").write_text(f"Name:\tx\n{memory}Cpus_allowed_list:\t{allowed}\n")


def test_each_gets_a_core_of_its_own_the_free_ones_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "PROCESSES", tmp_path)
    process(tmp_path, 1, "0-3")
    process(tmp_path, 2, "2")
    process(tmp_path, 3, "1", is_kernels=True)
    process(tmp_path, os.getpid(), "0")
    assert set(cores.choose((0, 1, 2, 3), 3)) == {0, 1, 3}
    assert cores.choose((0, 1, 2, 3), 4)[-1] == 2
    process(tmp_path, 4, "0")
    assert cores.choose((0, 2, 3), 1) == [3]


def test_more_workers_than_cores_share_them_evenly() -> None:
    assert sorted(cores.choose((4, 7), 5)) in ([4, 4, 4, 7, 7], [4, 4, 7, 7, 7])
    assert cores.choose((), 5) == []


def test_a_containers_share_bounds_how_many_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "allowed", lambda: tuple(range(8)))
    monkeypatch.setattr(cores, "QUOTA", tmp_path / "cpu.max")
    assert cores.count() == 8
    for quota, expected in (("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1), ("9900000 100000", 8)):
        (tmp_path / "cpu.max").write_text(quota + "\n")
        assert cores.count() == expected


def test_a_platform_without_affinity_keeps_nobody_to_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cores.allowed() == ()
    assert cores.count() >= 1
    assert cores.command(cores.allowed(), "a", "b") == ["a", "b"]


def test_a_command_runs_on_the_cores_that_it_is_given_from_its_first_thread_on() -> None:
    core = cores.allowed()[-1]
    ran = subprocess.run(cores.command((core,), sys.executable, "-c", SHOW), capture_output=True, text=True, check=True)
    assert ran.stdout == f"[{core}]\n"


def test_a_process_that_keeps_to_a_core_starts_others_on_all_of_them() -> None:
    script = (
        "import subprocess, sys; from speechbridge import cores; every = cores.allowed(); cores.keep_to(every[0]);"
        f"assert cores.allowed() == every[:1]; subprocess.run(cores.command(every, sys.executable, '-c', {SHOW!r}))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == f"{list(cores.allowed())}\n"
