"""A dead man's switch: the kernel kills this process at a given time, unless the process postpones that time.

A process that does not run (SIGSTOP, a debugger, a paused container, a blocked event loop) can neither renew its leases
nor close its upstream connections, and the speech service sees these as open. Only the end of the process closes them.
So a process that holds leases sets the switch to a time before the first of them expires, and postpones it whenever
they are renewed.

The switch is a POSIX timer that sends SIGKILL, which kills even a stopped process. It exists on Linux only; elsewhere
nothing is set. It also counts while the machine sleeps, but not while a hypervisor stops the whole machine.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

CLOCK_BOOTTIME = 7  # linux/time.h: CLOCK_MONOTONIC, and the time that the machine sleeps
SIGEV_SIGNAL = 0  # asm-generic/siginfo.h


class _Event(ctypes.Structure):
    """A `struct sigevent`, of 64 bytes."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_char * 48),
    )


class _Times(ctypes.Structure):
    """A `struct itimerspec`: the interval, and the time of the first signal. Two zeros mean never."""

    _fields_ = (
        ("again_seconds", ctypes.c_long),
        ("again_nanoseconds", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
    )


class Switch:
    """The switch of this process. A child that is forked has none."""

    def __init__(self) -> None:
        """Raise OSError if the kernel cannot create a timer."""
        self._timer: ctypes.c_void_p | None = None
        if sys.platform != "linux":
            return
        self._library = ctypes.CDLL(None, use_errno=True)
        if not hasattr(self._library, "timer_create"):  # glibc before 2.34
            self._library = ctypes.CDLL("librt.so.1", use_errno=True)
        timer, event = ctypes.c_void_p(), _Event(signo=signal.SIGKILL, notify=SIGEV_SIGNAL)
        self._check(self._library.timer_create(CLOCK_BOOTTIME, ctypes.byref(event), ctypes.byref(timer)))
        self._timer = timer

    def set(self, seconds: float) -> None:
        """Kill this process after these seconds from now. Replaces the time set before."""
        nanoseconds = max(1, round(seconds * 1e9))  # 0 would mean never
        self._set(*divmod(nanoseconds, 10**9))

    def clear(self) -> None:
        """Switch it off."""
        self._set(0, 0)

    def close(self) -> None:
        """Delete the timer."""
        if self._timer is not None:
            self._check(self._library.timer_delete(self._timer))
            self._timer = None

    def _set(self, seconds: int, nanoseconds: int) -> None:
        if self._timer is not None:
            times = _Times(seconds=seconds, nanoseconds=nanoseconds)
            self._check(self._library.timer_settime(self._timer, 0, ctypes.byref(times), None))

    @staticmethod
    def _check(result: int) -> None:
        if result != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
