"""Runs `speechbridge doctor` as a process, for a service of the test's."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speechbridge.cli.doctor import SUBJECTS
from tests.helpers.command import PATIENCE, environment
from tests.helpers.secrets import check_for_secrets

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True)
class Examined:
    status: int
    findings: list[dict[str, str]]
    stderr: str

    def told(self, mark: str, subject: str = "") -> list[str]:
        """Return the findings with a mark, each with its cure."""
        return [
            f"{finding['found']}: {finding['cure']}"
            for finding in self.findings
            if finding["mark"] == mark and finding["subject"] in (subject or finding["subject"])
        ]

    @property
    def wrong(self) -> list[str]:
        return self.told("WRONG")

    @property
    def only_mistake(self) -> str:
        """Return the only problem; fail if there is not exactly one, with a cure and exit code 1."""
        (found,) = [finding for finding in self.findings if finding["mark"] == "WRONG"]
        assert found["cure"]
        assert self.status == 1
        assert self.stderr.count("Traceback") == 0
        return f"{found['subject']}: {found['found']}: {found['cure']}"


async def doctor(
    *options: str, only: Collection[str] = (), leave_out: Collection[str] = (), limit: str = "", **variables: str
) -> Examined:
    """Run it for some subjects, or all; `limit` is set with a shell's ulimit first."""
    skipped = [subject for subject in SUBJECTS if (only and subject not in only) or subject in leave_out]
    command = [sys.executable, "-m", "speechbridge", "doctor", "--json", *options]
    command += [part for subject in skipped for part in ("--skip", subject)]
    if limit:
        command = ["sh", "-c", f'ulimit {limit}; exec "$@"', "sh", *command]
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment(**variables),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            written, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    stdout, stderr = written.decode(), errors.decode()
    check_for_secrets("output", stdout + stderr)
    assert process.returncode is not None
    return Examined(process.returncode, [json.loads(line) for line in stdout.splitlines()], stderr)
