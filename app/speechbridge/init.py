"""An init for a container that has none: `python -m speechbridge.init COMMAND ARGUMENT...`.

PID 1 becomes the parent of every orphaned process, and must wait for each of them. Otherwise they stay as zombies,
until the container has no process ids left. The service must not do that itself: it would take the exit status of
children for which asyncio or a user's processor waits. So PID 1 becomes this small program. It runs the command,
forwards signals, reaps orphans, and ends with the command's exit status.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def become_init() -> None:
    """If this process is PID 1, replace it by an init that runs the same command again; then this never returns."""
    if os.getpid() == 1:
        # -P, because the working directory is the user's, and may hold a signal.py.
        os.execv(sys.executable, [sys.executable, "-P", "-m", "speechbridge.init", *sys.orig_argv])  # noqa: S606 # us


def run(command: list[str]) -> int:
    """Run a command as init does; return its exit status, or 128 plus the signal's number if a signal killed it."""
    child = 0
    early: list[int] = []

    def forward(number: int, _frame: object) -> None:
        if child:
            os.kill(child, number)  # the child exists: only the loop below reaps it, and then ignores signals
        else:
            early.append(number)

    for forwarded in FORWARDED:
        signal.signal(forwarded, forward)
    # In a process group of its own: otherwise a terminal sends it Ctrl-C, and `forward` sends it once more.
    child = os.posix_spawnp(command[0], command, os.environ, setpgroup=0, setsigdef=FORWARDED)
    for number in early:
        os.kill(child, number)
    while True:
        pid, status = os.wait()
        if pid == child:
            for forwarded in FORWARDED:
                signal.signal(forwarded, signal.SIG_IGN)
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def main() -> NoReturn:
    """Run the command that the arguments name."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
