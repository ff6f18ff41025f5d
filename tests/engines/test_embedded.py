"""The embedded recognizer as a process: started, restarted, stopped. The scripted one stands in, as it starts fast."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from speechbridge.backoff import Backoff
from speechbridge.engines import Engine, UpstreamClosed, embedded, reconnect
from speechbridge.engines.embedded_process import EmbeddedRecognizer, RecognizerFailed
from speechbridge.engines.rev import RevEngine
from speechbridge.protocol.request import ContentType, StreamRequest
from speechbridge.server import speech
from speechbridge.settings import Settings
from speechbridge.testing.conformance import CHECKS
from syncbridge import Bridge
from tests.helpers.behaviours import as_json, scripts
from tests.helpers.puppet import until
from tests.helpers.secrets import secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from speechbridge.testing.conformance import Behaviour

pytestmark = pytest.mark.slow

PATIENCE = 20.0  # seconds, for processes on a busy machine


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "script.json"
    path.write_text(
        json.dumps([[{"do": "greet"}, {"do": "echo"}, {"do": "end", "code": 1000, "reason": "End of input. Closing"}]])
    )
    return str(path)


async def speak(recognizer: EmbeddedRecognizer) -> list[str]:
    upstream = RevEngine(recognizer.url, secret())(StreamRequest(ContentType.raw()))
    async with Bridge(upstream.start, abort=upstream.abort) as bridge, asyncio.timeout(PATIENCE):
        await bridge.send(bytes(320))
        bridge.end()
        return [response async for response in bridge]


def alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        # A zombie counts as dead: nobody has asked for its status yet.
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return False


def listens(recognizer: EmbeddedRecognizer) -> bool:
    try:
        return bool(recognizer.url())
    except UpstreamClosed:
        return False


async def test_modules_in_the_working_directory_do_not_take_the_place_of_ours(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("speechbridge", "websockets", "json"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not the one that is meant')")
    monkeypatch.chdir(tmp_path)
    async with EmbeddedRecognizer("--script", script, module="speechbridge.testing") as recognizer:
        assert listens(recognizer)


async def test_it_runs_inside_the_context_only(script: str) -> None:
    async with EmbeddedRecognizer("--script", script, module="speechbridge.testing") as recognizer:
        assert len(await speak(recognizer)) == 1
        assert recognizer.pid
    assert not alive(recognizer.pid)
    with pytest.raises(UpstreamClosed, match="4013"):
        recognizer.url()


async def test_a_process_that_dies_is_restarted_and_meanwhile_clients_are_refused(
    script: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        EmbeddedRecognizer("--script", script, module="speechbridge.testing") as recognizer,
        asyncio.timeout(PATIENCE),
    ):
        assert recognizer.pid
        os.kill(recognizer.pid, signal.SIGKILL)
        await until(lambda: not listens(recognizer))
        await until(lambda: listens(recognizer))
        assert len(await speak(recognizer)) == 1
    assert "the recognizer died" in caplog.text


async def test_a_process_that_says_why_it_cannot_start_is_understood(tmp_path: Path) -> None:
    with pytest.raises(RecognizerFailed, match="did not start: there is no model in") as failed:
        async with EmbeddedRecognizer("--model", str(tmp_path / "nowhere")):
            pass
    assert failed.value.is_explained


async def test_a_process_that_cannot_start_is_an_error() -> None:
    with pytest.raises(RecognizerFailed, match="exit status 2"):
        async with EmbeddedRecognizer("--no-such-option"):
            pass


async def test_it_ends_when_its_parent_is_killed(script: str) -> None:
    """Even by SIGKILL, which leaves nobody to stop it."""
    program = (
        "import asyncio, sys\n"
        "from speechbridge.engines.embedded_process import EmbeddedRecognizer\n"
        "async def main():\n"
        f"    async with EmbeddedRecognizer('--script', {script!r}, module='speechbridge.testing') as recognizer:\n"
        "        print(recognizer.pid, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=subprocess.PIPE)
    assert process.stdout
    pid = int(await process.stdout.readline())
    assert alive(pid)
    process.kill()
    await process.wait()
    async with asyncio.timeout(PATIENCE):
        await until(lambda: not alive(pid))
    await process.communicate()


# ---- the checks that all engines pass --------------------------------------------------------------------------------


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_the_embedded_engine_conforms(
    check: Callable[[Any], Coroutine[Any, Any, None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine, its process and its SDK are the real ones; what the process hears is in a script."""
    monkeypatch.setattr(reconnect, "BACKOFF", Backoff(0.0, 0.0))
    path = tmp_path / "script.json"

    @asynccontextmanager
    async def subject(behaviour: Behaviour) -> AsyncIterator[Engine]:
        path.write_text(as_json(*scripts(behaviour)))
        yield speech.choose(Settings.read(engine="embedded"))

    def scripted(*_arguments: str) -> EmbeddedRecognizer:
        return EmbeddedRecognizer("--script", str(path), module="speechbridge.testing")

    monkeypatch.setattr(embedded, "EmbeddedRecognizer", scripted)
    await check(subject)
