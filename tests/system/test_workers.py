"""Several workers on one port: a core each, one service for whoever looks, and nobody is harmed by another's death."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest
from websockets.asyncio.client import connect

from speechbridge.protocol.close import CloseCode
from tests.helpers.command import COUNTS, HEARS_HELLO, STUB, speechbridge
from tests.helpers.processes import children, ended
from tests.helpers.service import PATIENCE, STREAM, ending
from tests.helpers.workers import service

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

    from tests.helpers.workers import Service

pytestmark = pytest.mark.slow

BACK = 2.0  # seconds in which a worker that died is back


async def get(running: Service, path: str) -> tuple[int, str]:
    async with httpx2.AsyncClient() as http:
        answer = await http.get(running.http + path, headers={"connection": "close"})
    return answer.status_code, answer.text


async def metric(running: Service, name: str) -> float:
    _, text = await get(running, "/metrics")
    (value,) = re.findall(rf"^{re.escape(name)} (.*)$", text, re.MULTILINE)
    return float(value)


def descriptors_of(pid: int) -> set[str]:
    """Return the TCP connections that a process has, as inodes."""
    links = (str(found.readlink()) for found in Path(f"/proc/{pid}/fd").iterdir())
    return {link for link in links if link.startswith("socket:")}


async def answer(client: ClientConnection) -> str:
    """Send a little sound, and return the first answer that is not the greeting."""
    await client.send(b"\0\0")
    async with asyncio.timeout(PATIENCE):
        while '"connected"' in (said := str(await client.recv())):
            pass
    return said


# ---- who runs where --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two cores are needed")
def test_each_worker_keeps_to_a_core_of_its_own_and_the_log_names_it() -> None:
    with service(SPEECHBRIDGE_START=STUB) as running:
        cores = [os.sched_getaffinity(pid) for pid in running.workers().values()]
        assert sorted(map(len, cores)) == [1, 1]
        assert cores[0] != cores[1]
        assert len(os.sched_getaffinity(running.process.pid)) > 1
        assert running.end(signal.SIGTERM) == 0
    text = "".join(running.log)
    assert "[worker 1]" in text
    assert "[worker 2]" in text
    assert "Traceback" not in text


def test_pinning_can_be_turned_off() -> None:
    with service(SPEECHBRIDGE_START=STUB, SPEECHBRIDGE_PIN="off") as running:
        allowed = os.sched_getaffinity(0)
        assert [os.sched_getaffinity(pid) for pid in running.workers().values()] == [allowed, allowed]


async def test_connections_are_shared_out_evenly() -> None:
    with service(SPEECHBRIDGE_START=STUB) as running:
        async with AsyncExitStack() as stack:
            before = {name: descriptors_of(pid) for name, pid in running.workers().items()}
            for _ in range(20):
                one = await stack.enter_async_context(connect(running.url + STREAM, compression=None))
                assert "Get" in await answer(one)
            more = [len(descriptors_of(pid) - before[name]) for name, pid in running.workers().items()]
            assert more == [10, 10]


# ---- deaths ----------------------------------------------------------------------------------------------------------


async def test_a_worker_that_is_killed_is_back_and_takes_nothing_with_it_but_itself() -> None:
    with service(SPEECHBRIDGE_START=STUB, SPEECHBRIDGE_LOG_LEVEL="debug") as running:
        await asyncio.to_thread(running.await_line, "is loaded")  # the one that takes the place of the next that dies
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connect(running.url + STREAM)) for _ in range(6)]
            for client in clients:
                await answer(client)
            begun = time.monotonic()
            os.kill(running.workers()["1"], signal.SIGKILL)
            await asyncio.to_thread(running.await_line, r"worker 1 died \(exit status -9\)")
            assert "slots: ok, 197 of 200 are free" in (await get(running, "/readyz"))[1]
            await asyncio.to_thread(running.await_line, "worker 1 is ready")
            took = time.monotonic() - begun
            assert (await get(running, "/readyz"))[1].endswith("workers: ok, 2 of 2 run\n")
            alive = [client for client in clients if client.state.name == "OPEN"]
            assert len(alive) == 3
            for client in alive:
                assert "Get" in await answer(client)
            assert set(running.workers().values()) <= set(children(running.process.pid))
        assert took < BACK


async def test_what_was_counted_survives_the_worker_that_counted_it() -> None:
    with service(SPEECHBRIDGE_START=STUB, SPEECHBRIDGE_LOG_LEVEL="info") as running:
        for _ in range(4):
            async with connect(running.url + STREAM) as client:
                await client.send(b"\0\0" * 100)
                await client.send("EOS")
                await ending(client)
        completed = 'speechbridge_sessions_total{outcome="completed"}'
        assert await metric(running, completed) == 4
        for name in ("1", "2"):
            os.kill(running.workers()[name], signal.SIGKILL)
            await asyncio.to_thread(running.await_line, f"worker {name} died")
            await asyncio.to_thread(running.await_line, f"worker {name} is ready")
            assert await metric(running, completed) == 4
        assert await metric(running, "speechbridge_audio_received_bytes_total") == 800
        assert await metric(running, "speechbridge_workers") == 2
        assert await metric(running, "speechbridge_worker_restarts_total") == 2


async def test_who_comes_while_no_worker_runs_waits_for_the_next_one() -> None:
    with service(SPEECHBRIDGE_START=STUB) as running:
        for pid in running.workers().values():
            os.kill(pid, signal.SIGKILL)
        async with connect(running.url + STREAM) as client:  # the kernel, the door, or one that died had it first
            assert "Get" in await answer(client)


async def test_a_worker_that_has_stopped_gets_no_more_connections() -> None:
    with service(SPEECHBRIDGE_START=STUB) as running:
        os.kill(running.workers()["1"], signal.SIGSTOP)
        await asyncio.to_thread(running.await_line, "worker 1 does not answer")
        for _ in range(10):
            async with connect(running.url + STREAM) as client:
                assert "Get" in await answer(client)
        assert await metric(running, "speechbridge_workers_late") == 1
        os.kill(running.workers()["1"], signal.SIGCONT)
        await asyncio.to_thread(running.await_line, "worker 1 answers again")


def test_workers_end_with_a_parent_that_is_killed() -> None:
    with service(SPEECHBRIDGE_START=STUB) as running:
        descriptors = [os.pidfd_open(pid) for pid in running.workers().values()]
        running.process.kill()
        for descriptor in descriptors:
            assert ended(descriptor)


# ---- totals ----------------------------------------------------------------------------------------------------------


async def test_limits_are_totals_over_all_workers() -> None:
    with service(SPEECHBRIDGE_START=STUB, SPEECHBRIDGE_MAX_SESSIONS="3") as running:
        async with AsyncExitStack() as stack:
            for _ in range(3):
                one = await stack.enter_async_context(connect(running.url + STREAM))
                await answer(one)
            async with connect(running.url + STREAM) as fourth:
                messages, close = await ending(fourth)
            assert (messages, close.code) == ([], CloseCode.TOO_MANY)
            assert (await get(running, "/readyz"))[0] == 503
        async with connect(running.url + STREAM) as again:
            assert "Get" in await answer(again)


async def test_an_address_limit_is_a_total_over_all_workers() -> None:
    headers = {"X-Forwarded-For": "203.0.113.7"}
    with service(SPEECHBRIDGE_START=STUB, SPEECHBRIDGE_SESSIONS_PER_ADDRESS="3") as running:
        async with AsyncExitStack() as stack:
            for _ in range(3):
                one = await stack.enter_async_context(connect(running.url + STREAM, additional_headers=headers))
                await answer(one)
            async with connect(running.url + STREAM, additional_headers=headers) as fourth:
                assert (await ending(fourth))[1].code == CloseCode.CROWDED


async def test_what_an_address_sends_is_counted_over_all_workers() -> None:
    """One connection on each worker; together they send too much in a second, either alone would not."""
    headers = {"X-Forwarded-For": "203.0.113.7"}
    with service(SPEECHBRIDGE_START=STUB, SPEECHBRIDGE_BYTES_PER_SECOND="50000") as running:
        async with (
            connect(running.url + STREAM, additional_headers=headers) as one,
            connect(running.url + STREAM, additional_headers=headers) as other,
        ):
            async with asyncio.timeout(PATIENCE):
                while one.close_code is None and other.close_code is None:  # until both fall into one second
                    await asyncio.gather(one.send(bytes(26_000)), other.send(bytes(26_000)), return_exceptions=True)
                    await asyncio.gather(one.recv(), other.recv(), return_exceptions=True)
            assert CloseCode.TOO_MANY_BYTES in (one.close_code, other.close_code)


# ---- resuming --------------------------------------------------------------------------------------------------------


async def test_a_client_that_resumes_finds_its_stream_whichever_worker_it_reaches() -> None:
    """Each of the connections that resume goes to the other worker first, as the first one has another connection."""
    sent = 20
    with service(SPEECHBRIDGE_START=COUNTS, SPEECHBRIDGE_LOG_LEVEL="debug") as running:
        key, finals, positions = "true", 0, []
        for _ in range(sent):
            async with connect(f"{running.url}{STREAM}&resume={key}&finals={finals}") as client:
                greeting = json.loads(await client.recv())
                key, position = greeting["resume"], greeting["position"]
                positions.append(position)
                await client.send(b"\1\0" * 4000)
                async with asyncio.timeout(PATIENCE):
                    while '"final"' not in str(said := await client.recv()):
                        pass
                finals += 1
                assert json.loads(said)["elements"][0]["value"] == str(finals)
                client.transport.abort()
        assert positions == [8000 * n for n in range(sent)]
        async with connect(f"{running.url}{STREAM}&resume={key}&finals={finals}") as client:
            await client.recv()
            await client.send("EOS")
            assert (await ending(client))[1].code == CloseCode.NORMAL
        assert await metric(running, "speechbridge_sessions_active") == 0
        assert await metric(running, 'speechbridge_sessions_total{outcome="completed"}') == 1
        handed_on = [line for line in running.log if "resumes a stream of worker" in line]
    assert len(handed_on) > sent / 4


async def test_without_a_redis_a_stream_of_a_worker_that_died_is_unknown_to_the_others() -> None:
    with service(SPEECHBRIDGE_START=COUNTS, SPEECHBRIDGE_PRIVATE_REDIS="off") as running:
        async with connect(f"{running.url}{STREAM}&resume=true") as client:
            key = json.loads(await client.recv())["resume"]
            name = key.partition(".")[0]
            os.kill(running.workers()[name], signal.SIGKILL)
            await asyncio.to_thread(running.await_line, f"worker {name} died")
            async with connect(f"{running.url}{STREAM}&resume={key}") as again:
                assert (await ending(again))[1].code == CloseCode.BAD_REQUEST
            await asyncio.to_thread(running.await_line, f"worker {name} is ready")
            async with connect(f"{running.url}{STREAM}&resume={key}") as again:
                assert (await ending(again))[1].code == CloseCode.BAD_REQUEST


# ---- the end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_drains_all_workers(number: signal.Signals) -> None:
    with service(SPEECHBRIDGE_START=HEARS_HELLO) as running:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connect(running.url + STREAM)) for _ in range(4)]
            for client in clients:
                await client.recv()
                await client.send(b"\0\0")
            running.process.send_signal(number)
            for client in clients:
                messages, close = await ending(client)
                assert "Hello" in str(messages[-1])
                assert close.code == 4010
        assert await asyncio.to_thread(running.process.wait, 30) == 0
    assert "Traceback" not in "".join(running.log)


def test_a_worker_that_cannot_start_ends_the_service_with_one_line() -> None:
    ran = speechbridge("serve", "--port", "0", "--workers", "2", SPEECHBRIDGE_START="no.such:thing")
    assert ran.returncode == 2
    assert ran.stderr.splitlines()[-1].startswith(
        "speechbridge: SPEECHBRIDGE_START: 'no.such:thing' cannot be imported"
    )
    assert "Traceback" not in ran.stderr


def test_a_port_that_is_taken_is_told_before_any_worker_is_started() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = speechbridge("serve", "--port", str(port), "--workers", "2")
    assert ran.returncode == 1
    assert ran.stderr == (
        f"speechbridge: the service cannot start on 127.0.0.1:{port}: the port is taken; --port, or SPEECHBRIDGE_PORT,"
        " names another\n"
    )


@pytest.mark.parametrize("number", ["0", "-1", "999", "many", "1.5", "²"])
def test_a_number_of_workers_that_cannot_be_is_one_line(number: str) -> None:
    ran = speechbridge("serve", f"--workers={number}")
    assert ran.returncode == 2
    assert ran.stderr == f"speechbridge: SPEECHBRIDGE_WORKERS: {number!r} is not auto or a whole number from 1 to 256\n"
