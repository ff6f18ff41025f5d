"""A dead man's switch: the kernel ends this process at a time, unless that time is moved on before.

A process that stands still (SIGSTOP, a debugger, a paused container, a loop that is blocked) can neither renew its
leases nor hang up, and the other side sees its connections as open. Only its end closes them. So a process that holds
leases sets the switch to a moment before the first of them expires, and moves it on whenever they were renewed.

It is a POSIX timer that sends SIGKILL, which a stopped process does not survive either. Linux only: elsewhere nothing
is set. It counts the time that the machine sleeps. It cannot count time for which a hypervisor stops the whole machine.
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
    """A `struct itimerspec`: how often again, and when first. In seconds and nanoseconds; 0 and 0 is never."""

    _fields_ = (
        ("again_seconds", ctypes.c_long),
        ("again_nanoseconds", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
    )


class Switch:
    """The switch of this process. A child that is forked has none."""

    def __init__(self) -> None:
        """Raise OSError if the kernel has no timer to give."""
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
        """End this process after so many seconds, instead of when it was to end before."""
        nanoseconds = max(1, round(seconds * 1e9))  # 0 would be never
        self._set(*divmod(nanoseconds, 10**9))

    def clear(self) -> None:
        """Do not end this process."""
        self._set(0, 0)

    def close(self) -> None:
        """Give the timer back."""
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
