"""The dead man's switch: a process that cannot move it on is ended, whatever keeps it from that."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it is a timer of Linux")

SCRIPT = """
import sys, time
from speechbridge.cluster.switch import Switch
switch = Switch()
{then}
print("set", flush=True)
sys.stdin.read()
"""


def run(then: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(then=then)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "set\n"
    return process


def test_a_process_that_stands_still_is_ended() -> None:
    with run("switch.set(0.5)") as process:
        process.send_signal(signal.SIGSTOP)
        assert process.wait(10) == -signal.SIGKILL


def test_a_process_is_not_ended_before_the_last_time_that_was_set() -> None:
    begun = time.monotonic()
    with run("switch.set(0.3); switch.set(1.0)") as process:
        assert process.wait(10) == -signal.SIGKILL
    assert time.monotonic() - begun >= 1.0


@pytest.mark.parametrize("then", ["switch.clear()", "switch.close()"])
def test_a_switch_that_was_cleared_ends_nothing(then: str) -> None:
    with run(f"switch.set(0.3); {then}; time.sleep(0.6)") as process:
        _, _ = process.communicate("", timeout=10)
        assert process.returncode == 0
