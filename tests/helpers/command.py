"""The command line, run as a process, as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from speechbridge.protocol.messages import Element, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 60.0  # seconds, for processes on a busy machine; alone they take one or two
STUB = "tests.helpers.command:stub"
COUNTS = "tests.helpers.command:counts"
MOVABLE = "tests.helpers.command:movable"
HEARS_HELLO = "tests.helpers.command:hears_hello"


def stub(audio: Iterator[bytes]) -> Iterator[str]:
    for chunk in audio:
        yield f"Get {chunk!r}"


def hears_hello(audio: Iterator[bytes]) -> Iterator[str]:
    for _ in audio:
        pass
    yield Final(0, 1, (Element("Hello", ts=0.1, end_ts=0.9), Element(".", "punct"))).encode()


def counts(audio: Iterator[bytes]) -> Iterator[str]:
    """Answer each chunk with a final: the number of chunks so far."""
    for number, _ in enumerate(audio, 1):
        yield Final(number, number, (Element(str(number), ts=number, end_ts=number),)).encode()


def movable(audio: Iterator[bytes]) -> Iterator[str]:
    """Hear nothing, in streams that another process can go on with."""
    for _ in audio:
        pass
    yield from ()


movable.settled = lambda _response, _begun: None  # type: ignore[attr-defined] # a function may have attributes


def hears_at_both_ends(audio: Iterator[bytes]) -> Iterator[str]:
    """Yield a final after the first chunk, and another after the end of the input."""
    next(audio, None)
    yield Final(0, 1, (Element("Begun", ts=0.1, end_ts=0.2), Element(".", "punct"))).encode()
    for _ in audio:
        pass
    yield Final(1, 2, (Element("Ended", ts=1.1, end_ts=1.2), Element(".", "punct"))).encode()


def environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if "SPEECHBRIDGE" not in name and "REVAI" not in name}
    return kept | variables


def speechbridge(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # our own command
        [sys.executable, "-m", "speechbridge", *arguments],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def url_in(announced: str) -> str:
    """Return the base URL in a service's announcement."""
    return announced.split("url=")[1].split(maxsplit=1)[0]


def announced(process: subprocess.Popen[str], sign: str = "Ctrl-C") -> str:
    """Return what a service has printed up to the last line of its announcement."""
    assert process.stdout is not None
    printed = ""
    while sign not in printed:
        printed += (line := process.stdout.readline())
        assert line, f"the service did not start: {printed}"
    return printed


@contextmanager
def serving(port: str = "0", **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `speechbridge serve`, on a free port unless told; yields the process and what it announced."""
    with subprocess.Popen(  # our own command
        [sys.executable, "-m", "speechbridge", "serve", "--port", port],
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process, announced(process)
        finally:
            process.kill()
            with suppress(ValueError):  # the test has read and closed its output
                process.communicate()
