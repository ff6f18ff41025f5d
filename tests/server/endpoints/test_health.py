"""What those see who start, stop, balance and watch the service."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import httpx2
import pytest

from tests.helpers.forms import web
from tests.helpers.service import PATIENCE, STREAM, client, ending, service

if TYPE_CHECKING:
    from speechbridge.server.run import Server

SCHEMATHESIS = shutil.which("schemathesis", path=str(Path(sys.executable).parent)) or ""


def children() -> list[int]:
    """Return our child processes."""
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


async def get(server: Server, path: str) -> tuple[int, str]:
    async with web(server) as http:
        answer = await http.get(path)
    assert answer.headers["content-type"].startswith("text/plain")
    return answer.status_code, answer.text


async def test_it_is_ready_and_says_of_what_it_needs_how_it_is() -> None:
    async with service(max_sessions=3) as server:
        assert await get(server, "/livez") == (200, "alive\n")
        ready = "ready\nslots: ok, 3 of 3 are free\nupstream: ok\ndrain: ok\n"
        assert await get(server, "/readyz") == (200, ready)
        async with client(server, STREAM) as socket:
            await socket.recv()
            assert "slots: ok, 2 of 3 are free\n" in (await get(server, "/readyz"))[1]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/"])
async def test_head_is_answered_as_get_without_the_body(path: str) -> None:
    """Load balancers and uptime checks ask so."""
    async with service() as server, httpx2.AsyncClient() as http:
        url = server.url.replace("ws://", "http://") + path
        head, get = await http.head(url), await http.get(url)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == get.headers["content-type"]
        server.sessions.began_draining.set()
        assert (await http.head(url)).status_code == (503 if path == "/readyz" else 200)


async def test_it_is_not_ready_while_all_slots_are_taken() -> None:
    async with service(max_sessions=1) as server:
        async with client(server, STREAM) as socket:
            await socket.recv()
            assert await get(server, "/readyz") == (
                503,
                "not ready\nslots: all 1 are in use\nupstream: ok\ndrain: ok\n",
            )
            assert await get(server, "/livez") == (200, "alive\n")
            await socket.send("EOS")
            await ending(socket)
        assert (await get(server, "/readyz"))[0] == 200


@pytest.mark.slow
async def test_it_is_not_ready_while_the_recognizer_is_restarted() -> None:
    """Nor while the circuit is open: both are what the engine calls its trouble."""
    before = set(children())  # a Redis of other tests, say
    async with service(None, recognizer_threads=1) as server:
        assert (await get(server, "/readyz"))[0] == 200
        (recognizer,) = set(children()) - before
        os.kill(recognizer, signal.SIGKILL)
        with anyio.fail_after(PATIENCE):
            while (answer := await get(server, "/readyz"))[0] == 200:
                pass
        assert answer[0] == 503
        assert answer[1].splitlines() == [
            "not ready",
            "slots: ok, 200 of 200 are free",
            "upstream: the recognizer is being restarted: try again shortly",
            "drain: ok",
        ]
        assert await get(server, "/livez") == (200, "alive\n")


@pytest.mark.slow
@pytest.mark.skipif(not SCHEMATHESIS, reason="schemathesis is not installed: run make install")
async def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    """Every phase and every check that it has, against a real server."""
    schema = tmp_path / "openapi.json"
    async with service() as server:
        schema.write_text(json.dumps(server.app.openapi()))
        url = server.url.replace("ws://", "http://")
        command = [SCHEMATHESIS, "run", str(schema), "--url", url, "--checks", "all", "--seed", "1", "--no-color"]
        ran = await asyncio.to_thread(
            subprocess.run, command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
    assert ran.returncode == 0, ran.stdout
    assert "7 tested" in ran.stdout or "7 selected" in ran.stdout, ran.stdout
