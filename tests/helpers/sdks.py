"""Rev.ai's unmodified SDKs for Python and Node as clients: one interface to run either, and to read its reports."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rev_ai.models import MediaConfig
from rev_ai.streamingclient import RevAiStreamingClient

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parents[1] / "compat"
PATIENCE = 60.0


@dataclass
class Job:
    """The job of a client: `chunks` of silence as (bytes, number), and `options` with the SDK's own names.

    It is silence because the service would hold megabytes of noise in its replay buffer: no final covers it, and it may
    have been speech.
    """

    url: str
    chunks: list[tuple[int, int]]
    options: dict[str, Any] = field(default_factory=dict)
    media: str = "audio/x-raw"
    end: bool = True
    streams: int = 1  # at once


@dataclass
class Seen:
    """What an SDK reported to its caller."""

    connected: list[Any]
    responses: list[dict[str, Any]]
    closes: list[tuple[int, str]]
    errors: list[str] = field(default_factory=list)

    @property
    def finals(self) -> list[str]:
        joined = ("".join(e["value"] for e in r["elements"]) for r in self.responses if r["type"] == "final")
        return list(joined)


class Python:
    """rev_ai."""

    async def run(self, job: Job) -> list[Seen]:
        return await asyncio.gather(*(asyncio.to_thread(self._stream, job) for _ in range(job.streams)))

    def _stream(self, job: Job) -> Seen:
        seen = Seen([], [], [])
        client = RevAiStreamingClient(
            "token",
            MediaConfig(job.media, "interleaved", 16000, "S16LE", 1),
            on_connected=seen.connected.append,
            on_close=lambda code, reason: seen.closes.append((code, reason)),
            on_error=lambda error: seen.errors.append(repr(error)),
            url=job.url,
        )
        seen.responses.extend(json.loads(response) for response in client.start(self._chunks(job), **job.options))
        client.request_thread.join(PATIENCE)
        client.client.shutdown()
        return seen

    def _chunks(self, job: Job) -> Iterator[bytes]:
        for size, count in job.chunks:
            for _ in range(count):
                yield bytes(size)


class Node:
    """revai-node-sdk, in a process of its own. Skips the test if it cannot be installed."""

    async def run(self, job: Job) -> list[Seen]:
        await asyncio.to_thread(self._install)
        process = await asyncio.create_subprocess_exec(
            "node", str(HERE / "node_sdk.mjs"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        async with asyncio.timeout(PATIENCE):
            output, _ = await process.communicate(json.dumps(job.__dict__).encode())
        return [
            Seen(s["connected"], s["responses"], [tuple(c) for c in s["closes"]], s["errors"])
            for s in json.loads(output)
        ]

    def _install(self) -> None:
        if not (shutil.which("node") and shutil.which("npm")):
            pytest.skip("node and npm are not on this machine")
        if not (HERE / "node_modules" / "revai-node-sdk").is_dir():
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            installed = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
            if installed.returncode:
                pytest.skip(f"npm could not install revai-node-sdk: {installed.stderr.strip()[-200:]}")
