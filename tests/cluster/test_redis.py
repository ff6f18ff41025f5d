"""Redis as we use it: what is wrong is one line without a secret, and nothing stays there for ever."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import pytest

from speechbridge.cluster import FULL, HELD, Claim, Newcomer, Terms, Unavailable
from speechbridge.cluster.redis.connection import PATIENCE, Redis
from speechbridge.cluster.redis.leases import KEYS, RedisLeases
from speechbridge.cluster.redis.limits import RedisUse
from speechbridge.cluster.redis.shares import RedisShares
from tests.helpers.redis import RedisServer, redis_server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.redis import RedisServer


async def reach(url: str) -> None:
    async with Redis(url, "test").running():
        pass


@pytest.mark.parametrize(
    "url", ["http://:S3CRET@host", "redis://:S3CRET@host:port", "redis://:S3CRET@host?db=x", "S3CRET"]
)
def test_a_url_of_no_use_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match="write redis://") as refused:
        Redis(url, "test")
    assert "S3CRET" not in f"{refused.value}{refused.value.__cause__}"


async def test_a_redis_that_is_not_there_is_one_line_without_the_password() -> None:
    with pytest.raises(Unavailable) as away:
        await reach("redis://:S3CRET@127.0.0.1:1/0")
    assert str(away.value) == "Redis at 127.0.0.1:1 cannot be reached (Connection refused)"


async def test_a_socket_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as away:
        await reach(f"unix://{tmp_path}/none.sock")
    assert str(away.value) == f"Redis at {tmp_path}/none.sock cannot be reached (No such file or directory)"


async def test_a_password_that_is_not_accepted_is_one_line_without_it(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--requirepass", "another") as server:
        with pytest.raises(Unavailable) as away:
            await reach(server.url.replace("unix://", "unix://:S3CRET@"))
        assert str(away.value) == f"Redis at {tmp_path}/redis.sock does not accept the password"
        with pytest.raises(Unavailable) as away:
            await reach(server.url)
        assert str(away.value) == f"Redis at {tmp_path}/redis.sock does not accept the password"
        await reach(server.url.replace("unix://", "unix://:another@"))


async def test_a_redis_that_stands_still_holds_nobody_up_for_long(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        redis = Redis(server.url, "test")
        leases = RedisLeases(redis, Terms(1))
        async with redis.running():
            await leases.ask([Claim("a")])
            server.freeze()
            with pytest.raises(Unavailable):
                async with asyncio.timeout(3 * PATIENCE):
                    await leases.ask([Claim("b")])
            server.thaw()
            assert await leases.renew(["a"]) == set()


async def test_a_speaker_who_shares_hardly_waits_for_it(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        redis = Redis(server.url, "test")
        shares = RedisShares(redis, 60.0)
        async with redis.running():
            server.freeze()
            async with asyncio.timeout(PATIENCE / 2):
                await shares.announce("token")
            server.thaw()


async def test_of_many_who_call_at_once_each_gets_an_answer(server: RedisServer) -> None:
    """As when all clients of a process that died come to another one."""
    redis = Redis(server.url, secrets.token_hex(4))
    leases = RedisLeases(redis, Terms(1))
    async with redis.running():
        answers = await asyncio.gather(*(leases.ask([Claim(str(number))]) for number in range(200)))
    assert answers.count([HELD]) == 1
    assert answers.count([FULL]) == 199


async def test_leases_and_limits_need_no_memory_that_is_left(tmp_path: Path) -> None:
    """Otherwise all streams of the account would be cut, as their leases could not be renewed."""
    with redis_server(tmp_path, "--maxmemory", "1") as server:
        redis = Redis(server.url, "test")
        leases, use = RedisLeases(redis, Terms(1)), RedisUse(redis, 60)
        async with redis.running():
            assert await leases.ask([Claim("a"), Claim("b")]) == [HELD, FULL]
            assert await leases.renew(["a"]) == set()
            await leases.release("a")
            assert await use.enter({"streams": 1}, [Newcomer(["key x"], [("key x", 1)])]) == [None]


async def test_every_key_has_an_expiry_and_the_prefix(server: RedisServer) -> None:
    prefix = secrets.token_hex(4)
    redis = Redis(server.url, prefix)
    leases = RedisLeases(redis, Terms(1))
    async with redis.running():
        await leases.ask([Claim("a")])
        await leases.release("a")
        await leases.ask([Claim("a"), Claim("b", "b", joins=True)])
        keys = [key async for key in redis._client.scan_iter(f"*{prefix}*")]
        assert {key.partition(":")[2] for key in keys} == {*KEYS}
        for key in keys:
            assert await redis._client.pttl(key) > 0


async def test_what_is_heard_goes_on_after_redis_was_restarted(tmp_path: Path) -> None:
    heard = asyncio.Event()
    with redis_server(tmp_path) as server:
        redis = Redis(server.url, "test")
        leases = RedisLeases(redis, Terms(1))
        redis.listen(redis.key("leases"), lambda _message: heard.set())
        async with redis.running():
            server.process.kill()
            server.process.wait()
            (tmp_path / "redis.sock").unlink(missing_ok=True)
            with redis_server(tmp_path):
                async with asyncio.timeout(4 * PATIENCE):
                    while not heard.is_set():
                        await leases.ask([Claim("a")])
                        await leases.release("a")
                        await asyncio.sleep(0.05)


async def test_a_connection_ends_whenever_it_is_told_to(server: RedisServer) -> None:
    """The client loses a cancellation that comes while it connects: about one in fifteen of these."""
    for turns in range(48):
        redis = Redis(server.url, "prefix")
        redis.listen("channel", lambda _message: None)
        async with asyncio.timeout(PATIENCE), redis.running():
            for _ in range(turns % 12):
                await asyncio.sleep(0)


async def test_a_task_that_calls_on_and_on_ends_when_it_is_cancelled_once(server: RedisServer) -> None:
    """The client loses a cancellation that comes while it sends; then nothing would end the task."""
    redis = Redis(server.url, "prefix")
    leases = RedisLeases(redis, Terms(1))

    async def call_on_and_on() -> None:
        while True:
            await leases.renew(["a"])

    async with redis.running():
        for turns in range(200):
            calling = asyncio.create_task(call_on_and_on())
            for _ in range(turns % 50):
                await asyncio.sleep(0)
            calling.cancel()
            await asyncio.wait({calling}, timeout=PATIENCE)
            assert calling.cancelled(), turns
