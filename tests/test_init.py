"""PID 1 without an init: signals arrive, orphans are reaped, and the exit status is the command's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.command import PATIENCE, announced, environment

pytestmark = pytest.mark.slow

INIT = [sys.executable, "-m", "speechbridge.init"]
NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def can_be_pid_1() -> bool:
    return bool(shutil.which("unshare")) and subprocess.run([*NAMESPACE, "true"], check=False).returncode == 0


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*INIT, *command], capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", 143)])
def test_it_ends_as_its_command_does(script: str, status: int) -> None:
    assert run("sh", "-c", script).returncode == status


def test_a_command_that_is_not_there_is_an_error() -> None:
    assert "FileNotFoundError" in run("no-such-command").stderr


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_reach_the_command(sig: signal.Signals) -> None:
    script = f"trap 'echo told; exit 5' {sig.name[3:]}; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen([*INIT, "sh", "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(sig)
        told, _ = process.communicate(timeout=PATIENCE)
    assert (told, process.returncode) == ("told\n", 5)


def zombies(root: int) -> list[str]:
    """Return the names of zombies among the descendants of a process."""
    found, families = [], {root}
    for _ in range(4):
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            except (OSError, ProcessLookupError):
                continue
            if int(fields["PPid"]) in families:
                families.add(int(fields["Pid"]))
                if fields["State"].startswith("Z") and fields["Name"] not in found:
                    found.append(fields["Name"])
    return found


@pytest.mark.skipif(not can_be_pid_1(), reason="no process here may have a PID namespace of its own")
def test_the_service_as_pid_1_leaves_no_zombies_and_drains_at_sigterm(tmp_path: Path) -> None:
    """An orphan is made by a child of the service that ends before its own child. Its folder is somebody else's."""
    (tmp_path / "signal.py").write_text("raise ImportError('this is not the signal that is meant')")
    with subprocess.Popen(
        [*NAMESPACE, sys.executable, "-P", "-m", "speechbridge", "serve", "--port", "0"],
        cwd=tmp_path,
        env=environment(SPEECHBRIDGE_START="tests.test_init:orphaning", PYTHONPATH=str(Path(__file__).parents[1])),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            announced(process)
            [pid_1] = children(process.pid)
            assert "speechbridge.init" in Path(f"/proc/{pid_1}/cmdline").read_text()
            deadline = time.monotonic() + PATIENCE
            while len(children(pid_1)) > 1:  # the orphans come, and end
                assert time.monotonic() < deadline, children(pid_1)
                time.sleep(0.05)
            assert zombies(pid_1) == []
            os.kill(pid_1, signal.SIGTERM)
            _, logged = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert "Finished server process" in logged
    assert process.returncode == 0


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _leave_orphans() -> None:
    """Leave three orphans, which end at once."""
    subprocess.run(["sh", "-c", "for n in 1 2 3; do (sleep 0.1; exit 0) & done"], check=True)


if os.environ.get("SPEECHBRIDGE_START") == "tests.test_init:orphaning":  # imported by the service
    _leave_orphans()
orphaning = iter
