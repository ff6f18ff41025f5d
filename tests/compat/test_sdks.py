"""Rev.ai's Python and Node SDKs, unmodified, against the service: only the URL changes."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from speechbridge.protocol.close import END_OF_INPUT
from speechbridge.recognizer.server import serving
from speechbridge.testing.script import NORMAL, End, Greet, Scripted, Wait
from tests.helpers.sdks import Job, Node, Python, Seen
from tests.helpers.service import service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from speechbridge.testing.script import Script

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("sdk", [Python(), Node()], ids=["python", "node"]),
    # rev_ai's send thread dies of a connection that ends under it, in the client's process; that is how it is.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


@asynccontextmanager
async def service_before(script: Script = NORMAL, **settings: object) -> AsyncIterator[tuple[str, Scripted]]:
    scripted = Scripted(script)
    async with serving(scripted) as upstream, service(None, revai_url=upstream.url, **settings) as server:
        yield server.url, scripted


async def one(sdk: Python | Node, job: Job) -> Seen:
    [seen] = await sdk.run(job)
    assert seen.errors == []
    return seen


async def test_connect_metadata_many_small_chunks_eos_the_final_and_a_good_end(sdk: Python | Node) -> None:
    async with service_before() as (url, scripted):
        seen = await one(sdk, Job(url, [(320, 20)], {"metadata": "my stream & more"}))
    assert len(seen.connected) == 1
    assert seen.finals == ["6400 bytes"]
    assert seen.closes == [(1000, END_OF_INPUT)]
    [client] = scripted.clients
    assert client.parameters["metadata"] == "my stream & more"
    assert (client.audio, client.eos) == (6400, 1)


async def test_messages_of_megabytes_fragmented_or_not_arrive_whole(sdk: Python | Node) -> None:
    """Node cuts what is larger than 16 KiB into fragments, Python does not."""
    async with service_before(max_message_bytes=8 * 2**20) as (url, scripted):
        seen = await one(sdk, Job(url, [(4 * 2**20, 4)]))
    assert seen.closes == [(1000, END_OF_INPUT)]
    assert scripted.clients[0].audio == 16 * 2**20


async def test_audio_before_connected_is_kept(sdk: Python | Node) -> None:
    """Neither SDK waits for `connected`; here the upstream accepts nobody until the client has long sent."""
    async with service_before((Wait(seconds=0.5), *NORMAL)) as (url, _):
        seen = await one(sdk, Job(url, [(320, 3)]))
    assert seen.finals == ["960 bytes"]


async def test_no_audio_at_all(sdk: Python | Node) -> None:
    async with service_before() as (url, _):
        seen = await one(sdk, Job(url, []))
    assert seen.finals == ["0 bytes"]
    assert seen.closes == [(1000, END_OF_INPUT)]


@pytest.mark.parametrize(
    ("code", "reason"), [(4001, "unauthorized"), (4002, "bad metadata"), (4003, "insufficient credits")]
)
async def test_a_refusal_by_the_upstream_reaches_the_callbacks(sdk: Python | Node, code: int, reason: str) -> None:
    async with service_before((Greet(), Wait(messages=1), End(code, reason))) as (url, _):
        seen = await one(sdk, Job(url, [(320, 3)], end=False))
    assert seen.closes == [(code, reason)]


async def test_a_bad_content_type_is_4002(sdk: Python | Node) -> None:
    async with service_before() as (url, _):
        seen = await one(sdk, Job(url, [(320, 1)], media="audio/midi"))
    [(code, reason)] = seen.closes
    assert code == 4002
    assert "audio/midi" in reason
    assert seen.connected == []


async def test_audio_that_is_not_of_its_content_type_is_4002(sdk: Python | Node) -> None:
    async with service_before() as (url, _):
        seen = await one(sdk, Job(url, [(320, 1)], media="audio/mpeg"))
    [(code, reason)] = seen.closes
    assert code == 4002
    assert "audio/mpeg" in reason


async def test_a_client_beyond_the_limit_is_4029(sdk: Python | Node) -> None:
    async with service_before(max_sessions=1) as (url, _):
        both = await sdk.run(Job(url, [(320, 5)], streams=2))
    assert sorted(code for seen in both for code, _ in seen.closes) == [1000, 4029]


async def test_no_close_code_is_lost_in_a_hundred_runs(sdk: Python | Node) -> None:
    """The peer that tells why and hangs up at once loses its word in 16 of 40 runs: the service lingers."""
    script = (Greet(), Wait(messages=1), End(4003, "insufficient credits"))
    closes = []
    async with service_before(script) as (url, _):
        for _ in range(5):
            closes += [seen.closes for seen in await sdk.run(Job(url, [(65536, 3)], streams=20))]
    assert closes == [[(4003, "insufficient credits")]] * 100
