"""The application where it is not our own server that runs it: mounted in another one, under a prefix, by uvicorn."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import urlopen

import httpx2
import pytest
from fastapi import FastAPI
from websockets.sync.client import connect

from speechbridge.engines.embedded import NOT_RUN
from speechbridge.server import create_app
from speechbridge.server.run import running
from speechbridge.settings import Settings
from tests.helpers.command import STUB, announced, environment
from tests.helpers.puppet import until
from tests.helpers.secrets import secret
from tests.helpers.service import STREAM, client, ending, quiet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from speechbridge.server.run import Server

PAGE = (Path(__file__).parents[2] / "docs" / "embedding.md").read_text()
SECRET = secret()


@asynccontextmanager
async def mounted(own: FastAPI, speech: FastAPI) -> AsyncIterator[Server]:
    """Serve an application of somebody else's, of which ours is a part."""
    own.state.sessions, own.state.metrics, own.state.failure = speech.state.sessions, speech.state.metrics, None
    async with running(own, Settings.read(port=0)) as server:
        yield server


async def test_mounted_without_its_lifespan_it_says_at_once_what_to_do() -> None:
    own, speech = FastAPI(), create_app(Settings.read())
    own.mount("/speech", speech)
    async with mounted(own, speech) as server, httpx2.AsyncClient() as http:
        for path in (STREAM, "/ws_a"):
            async with client(server, f"/speech{path}") as socket:
                messages, close = await ending(socket)
            assert close == NOT_RUN
            assert len(messages) == (path == STREAM), "connected, and nothing else"
        ready = await http.get(server.url.replace("ws:", "http:") + "/speech/readyz")
        assert (ready.status_code, NOT_RUN.reason in ready.text) == (503, True)
    assert len(NOT_RUN.reason) <= 123


@pytest.mark.slow
async def test_the_lines_of_the_docs_mount_it_with_its_recognizer(monkeypatch: pytest.MonkeyPatch) -> None:
    (lines,) = [text for text in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if ".mount(" in text]
    names: dict[str, FastAPI] = {}
    exec(lines, names)  # noqa: S102 # our own documentation
    async with mounted(names["app"], names["speech"]) as server, httpx2.AsyncClient() as http:
        base = server.url.replace("ws:", "http:")
        assert (await http.get(f"{base}/speech/readyz")).status_code == 200
        assert "<title>" in (await http.get(f"{base}/speech/")).text
        async with client(server, f"/speech{STREAM}") as socket:
            assert '"connected"' in str(await socket.recv())
            await socket.send("EOS")
            assert (await ending(socket))[1].code == 1000


@pytest.mark.parametrize("prefix", ["/speech", "/a/b"])
async def test_under_a_prefix_a_client_resumes_although_its_limit_is_full(prefix: str) -> None:
    own, speech = FastAPI(), create_app(Settings.read(sessions_per_address=1), stream_client_start=quiet)
    own.mount(prefix, speech)
    forwarded = {"additional_headers": {"X-Forwarded-For": "203.0.113.7"}}
    async with mounted(own, speech) as server:
        async with client(server, f"{prefix}{STREAM}&resume=true", **forwarded) as socket:
            key = str(await socket.recv()).split('"resume": "')[1].split('"')[0]
            socket.transport.abort()
        await until(lambda: not server.connections)
        async with client(server, f"{prefix}{STREAM}", **forwarded) as other:
            assert (await ending(other))[1].code == 4030
        async with client(server, f"{prefix}{STREAM}&resume={key}", **forwarded) as socket:
            assert '"resume"' in str(await socket.recv())
            await socket.send("EOS")
            assert (await ending(socket))[1].code == 1000


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--root-path", "/speech"), ("--ws", "websockets-sansio")])
def test_uvicorns_own_log_holds_no_key(options: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "uvicorn", "speechbridge.server:create_app", "--factory", "--port", "0", *options]
    settings = environment(SPEECHBRIDGE_START=STUB)
    with subprocess.Popen(
        command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            logged = announced(process, "running on")
            (port,) = re.findall(r"running on http://127.0.0.1:(\d+)", logged)
            with connect(f"ws://127.0.0.1:{port}{STREAM}&access_token={SECRET}") as socket:
                socket.recv()
                socket.send("EOS")
            for query in ("?", "%3F"):
                with suppress(HTTPError):
                    urlopen(f"http://127.0.0.1:{port}/livez{query}access_token={SECRET}").close()
            process.send_signal(signal.SIGTERM)
            assert process.stdout is not None
            logged += process.stdout.read()
        finally:
            process.kill()
    assert "/livez" in logged
    assert "[accepted]" in logged
    assert SECRET not in logged
