"""The command line, run as a process, as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 20.0  # seconds; a process starts, imports and ends in one or two
STUB = "tests.helpers.command:stub"


def stub(audio: Iterator[bytes]) -> Iterator[str]:
    for chunk in audio:
        yield f"Get {chunk!r}"


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
    """Return the base URL of the service that announced itself so."""
    return announced.split("url=")[1].split(maxsplit=1)[0]


@contextmanager
def serving(**variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `speechbridge serve` on a free port; yields the process and what it announced."""
    with subprocess.Popen(  # our own command
        [sys.executable, "-m", "speechbridge", "serve", "--port", "0"],
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            announced = ""
            while "Ctrl-C" not in announced:
                announced += (line := process.stdout.readline())
                assert line, "the service did not start"
            yield process, announced
        finally:
            process.kill()
            with suppress(ValueError):  # the test has read it all, and closed it
                process.communicate()
