"""The profile `cluster` of docker-compose.yml, as one runs it: three replicas, and one of them is killed."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.client import connect

from speechbridge import ContentType, StreamRequest, connect_resumable
from speechbridge.protocol.close import CloseCode
from speechbridge.protocol.messages import Final
from speechbridge.server.admission import make_key
from tests.helpers.clip import chunks, words_right
from tests.helpers.service import STREAM, ending
from tests.helpers.stack import AUTHORITY, CLUSTER, REPLICAS, SERVICES, Stack, running, what_is_missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

if missing := what_is_missing():
    pytest.skip(f"containers cannot be run: {missing}", allow_module_level=True)

KEY, LINE = make_key("alice")
MOST = 6  # connections with one key
METRICS = (
    "python -c 'from urllib.request import urlopen; print(urlopen(\"http://127.0.0.1:8000/metrics\").read().decode())'"
)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    limits = {"SPEECHBRIDGE_API_KEYS": LINE, "SPEECHBRIDGE_SESSIONS_PER_KEY": str(MOST)}
    with running(CLUSTER, **limits) as stack:
        yield stack


@pytest.fixture
def url(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of the service, whose certificate is trusted."""
    file = tmp_path / "root.crt"
    file.write_text(stack.within("caddy", f"cat {AUTHORITY}"))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    return f"wss://{stack.origin}"


def active(stack: Stack, replica: str) -> int:
    """Return how many streams a replica has."""
    found = re.search(r"^speechbridge_sessions_active (\d+)", stack.within(replica, METRICS), re.MULTILINE)
    assert found
    return int(found[1])


def kill(stack: Stack, replica: str) -> None:
    """Kill all that runs in a container: its engine starts it again."""
    stack.within(replica, "kill -9 -1")


def configured(stack: Stack, *options: str) -> dict[str, Any]:
    ran = stack.compose(*options, "config", "--format", "json")
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)["services"]
    assert isinstance(found, dict)
    return found


def test_without_the_profile_there_is_one_of_each_and_with_it_three_replicas() -> None:
    assert sorted(configured(Stack(0, 0, {}, SERVICES))) == sorted(SERVICES)
    cluster = configured(Stack(0, 0, {}, CLUSTER, ("--profile", "cluster")))
    assert sorted(cluster) == sorted(CLUSTER)
    for name in CLUSTER:
        assert cluster[name]["read_only"]
        assert cluster[name]["cap_drop"] == ["ALL"]
        assert int(cluster[name]["mem_limit"]) > 0
    apart = dict.fromkeys(("networks", "profiles", "depends_on"))  # the first one is there without the profile, too
    one, *more = ({**cluster[name], **apart} for name in REPLICAS)
    assert more == [one, one], "they differ in nothing else"


def test_every_replica_shares_the_redis(stack: Stack) -> None:
    told = stack.within("redis", "redis-cli client list")
    addresses = {line.split("addr=")[1].split(":")[0] for line in told.splitlines() if "name=speechbridge" in line}
    assert len(addresses) == len(REPLICAS)
    assert "Uid:\t10001" in stack.within("redis", "cat /proc/1/status")


async def test_connections_are_shared_out_and_counted_together(stack: Stack, url: str) -> None:
    async with AsyncExitStack() as stack_:
        address = f"{url}{STREAM}&access_token={KEY}"
        streams = [
            await stack_.enter_async_context(connect(address, compression=None, close_timeout=1)) for _ in range(MOST)
        ]
        for stream in streams:
            assert "connected" in str(await stream.recv())
        counts = [await asyncio.to_thread(active, stack, replica) for replica in REPLICAS]
        assert sum(counts) == MOST
        assert max(counts) <= MOST - 2, "none has nearly all"
        refused = await stack_.enter_async_context(connect(address, compression=None, close_timeout=1))
        assert (await ending(refused))[1].code == CloseCode.CROWDED


async def test_captions_go_on_when_their_replica_is_killed(stack: Stack, url: str) -> None:
    heard: list[Final] = []
    request = StreamRequest(ContentType.raw(), access_token=KEY)
    async with connect_resumable(url, request) as stream:

        async def speak() -> None:
            for index, chunk in enumerate(chunks()):
                if index == 60:  # in the first sentence, after 6 s
                    (own,) = [one for one in REPLICAS if await asyncio.to_thread(active, stack, one)]
                    await asyncio.to_thread(kill, stack, own)
                await stream.send(chunk)
                await asyncio.sleep(0.1)
            await stream.end()

        async with asyncio.TaskGroup() as group:
            group.create_task(speak())
            heard.extend([message async for message in stream if isinstance(message, Final)])
        assert stream.cuts >= 1
        assert stream.restarts == 0, "another replica went on with it"
        assert stream.lost == 0
    assert words_right([*heard]) > 0.8
    times = [word.ts or 0.0 for message in heard for word in message.words]
    assert times == sorted(times)
    words = " ".join(word.value for message in heard for word in message.words)
    assert words.count("Dashwood") == 1
