"""The flows of /ws, one connection each, as the guide's own client would use them."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import resource
import threading
from typing import TYPE_CHECKING

import anyio
import pytest
from websockets.asyncio.server import ServerConnection, serve

from speechbridge.server.endpoints import flows
from tests.helpers.far_side import external
from tests.helpers.puppet import until
from tests.helpers.service import PATIENCE, client, ending, service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from websockets.asyncio.client import ClientConnection


def stub(audio: Iterator[bytes]) -> Iterator[str]:
    for chunk in audio:
        yield f"Get {chunk!r}"


async def still_works(socket: ClientConnection) -> None:
    await socket.send("text")
    await socket.send("still there?")
    assert await socket.recv() == "Echo: still there?"


@pytest.mark.slow
async def test_the_guides_client_gets_the_guides_three_outputs(tmp_path: Path) -> None:
    content = os.urandom(64 * 2**20)
    chunks = [content[start : start + 1024] for start in range(0, len(content), 1024)]
    async with external("answer to") as url, service(files_dir=tmp_path, proxy_url=url) as server:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        async with client(server, "/ws") as socket:
            await socket.send("text")
            await socket.send("Hello")
            assert await socket.recv() == "Echo: Hello"
            await socket.send("file")
            with anyio.fail_after(12 * PATIENCE):
                for chunk in chunks:
                    await socket.send(chunk)
                await socket.send(b"EOF")
                assert await socket.recv() == "File received successfully"
            await socket.send("proxy")
            await socket.send("question")
            assert await socket.recv() == "External response: answer to question"
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    [stored] = tmp_path.iterdir()
    assert hashlib.sha256(stored.read_bytes()).digest() == hashlib.sha256(content).digest()
    assert grown < 16 * 1024  # KiB: a quarter of the file


@pytest.mark.parametrize("end", ["EOF", b"EOF"])
async def test_a_file_ends_with_eof_as_text_or_binary_and_not_with_what_contains_it(
    end: str | bytes, tmp_path: Path
) -> None:
    async with service(files_dir=tmp_path / "made" / "for us") as server, client(server, "/ws") as socket:
        await socket.send("file")
        for chunk in (b"", b"EOF ", b"xEOF", b"EOFEOF", end):
            await socket.send(chunk)
        assert await socket.recv() == "File received successfully"
    [stored] = (tmp_path / "made" / "for us").iterdir()
    assert stored.read_bytes() == b"EOF xEOFEOFEOF"


async def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    async with service(files_dir=tmp_path) as server, client(server, "/ws") as socket:
        await socket.send("file")
        await socket.send(b"EOF")
        assert await socket.recv() == "File received successfully"
    [stored] = tmp_path.iterdir()
    assert stored.stat().st_size == 0


async def test_a_file_that_is_too_large_is_refused_and_its_rest_passes_by(tmp_path: Path) -> None:
    async with service(files_dir=tmp_path, max_file_bytes=10) as server, client(server, "/ws") as socket:
        await socket.send("file")
        for chunk in (bytes(10), b"!", b"the rest", b"on its way", b"EOF"):
            await socket.send(chunk)
        assert await socket.recv() == "Error: the file is larger than 10 bytes; nothing was stored"
        await still_works(socket)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("code", "said"), [(errno.ENOSPC, "No space left on device"), (errno.EROFS, "Read-only")])
async def test_a_full_disk_is_answered_and_leaves_nothing(
    code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_upload: object, _data: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(flows._Upload, "write", refuse)
    async with service(files_dir=tmp_path) as server, client(server, "/ws") as socket:
        await socket.send("file")
        await socket.send(bytes(flows.BATCH))
        await socket.send("EOF")
        assert said in str(await socket.recv())
        await still_works(socket)
    assert list(tmp_path.iterdir()) == []


async def test_a_folder_that_cannot_be_is_answered(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    async with service(files_dir=tmp_path / "file" / "folder") as server, client(server, "/ws") as socket:
        await socket.send("file")
        assert await socket.recv() == "Error: the file cannot be stored: Not a directory"
        await still_works(socket)


@pytest.mark.parametrize("sent", [[], [b"one"], [bytes(2**19)], [bytes(2**19), b"two"]])
@pytest.mark.parametrize("leave", ["close", "vanish"])
async def test_a_client_that_leaves_in_the_middle_leaves_nothing(sent: list[bytes], leave: str, tmp_path: Path) -> None:
    async with service(files_dir=tmp_path) as server, client(server, "/ws") as socket:
        await socket.send("file")
        for chunk in sent:
            await socket.send(chunk)
        if leave == "vanish":
            socket.transport.abort()
    assert list(tmp_path.iterdir()) == []


async def test_names_are_ours_whatever_the_client_calls_it(tmp_path: Path) -> None:
    """There is no way to name a file; what looks like one is content, or no flow."""
    folder = tmp_path / "files"
    async with service(files_dir=folder) as server, client(server, "/ws") as socket:
        for trick in ("file ../../x", "../file", "file\0", "FILE", "/etc/passwd"):
            await socket.send(trick)
            assert "is no flow: send the name of a flow: text, file, proxy or audio" in str(await socket.recv())
        await socket.send("file")
        await socket.send(b"../../escaped")
        await socket.send(b"EOF")
        await socket.recv()
    assert {path.name for path in tmp_path.iterdir()} == {"files"}
    [stored] = folder.iterdir()
    assert not stored.name.startswith(".")


async def test_text_where_bytes_belong_ends_the_file_flow(tmp_path: Path) -> None:
    async with service(files_dir=tmp_path) as server, client(server, "/ws") as socket:
        await socket.send("file")
        await socket.send("oops")
        assert await socket.recv() == "Error: file takes binary messages, then EOF; nothing was stored"
        await still_works(socket)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flow", ["text", "proxy"])
async def test_bytes_where_text_belongs_are_answered(flow: str) -> None:
    async with service() as server, client(server, "/ws") as socket:
        await socket.send(flow)
        await socket.send(b"binary")
        assert await socket.recv() == f"Error: {flow} takes a text message, not a binary one"
        await socket.send(b"no flow")
        assert str(await socket.recv()).startswith("Error: a binary message of 7 bytes is no flow")
        await still_works(socket)


async def test_a_long_name_is_answered_in_one_short_line() -> None:
    async with service() as server, client(server, "/ws") as socket:
        await socket.send("no\nflow" * 1000)
        answer = str(await socket.recv())
        assert "\n" not in answer
        assert len(answer) < 150


async def test_never_ending_text_is_1009() -> None:
    async def endless() -> AsyncIterator[str]:
        while True:
            yield "x" * 65536

    async with service(max_message_bytes=2**20) as server, client(server, "/ws") as socket:
        await socket.send("text")
        talking = asyncio.ensure_future(socket.send(endless()))
        _, close = await ending(socket)
        await asyncio.gather(talking, return_exceptions=True)
    assert close.code == 1009


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "Error: the external server closed without an answer"),
        (b"\xff", "Error: the external server answered with bytes that are not UTF-8"),
        (b"bytes", "External response: bytes"),
    ],
)
async def test_odd_external_answers_leave_the_connection_usable(answer: bytes | None, said: str) -> None:
    async with external(answer) as url, service(proxy_url=url) as server, client(server, "/ws") as socket:
        await socket.send("proxy")
        await socket.send("question")
        assert await socket.recv() == said
        await still_works(socket)


async def test_an_external_server_that_is_silent_or_absent_is_answered() -> None:
    release = asyncio.Event()

    async def silent(_connection: ServerConnection) -> None:
        await release.wait()

    async with serve(silent, "127.0.0.1", 0) as far:
        port = next(iter(far.sockets)).getsockname()[1]
        async with (
            service(proxy_url=f"ws://127.0.0.1:{port}", proxy_seconds=0.2) as server,
            client(server, "/ws") as socket,
        ):
            await socket.send("proxy")
            await socket.send("question")
            assert await socket.recv() == "Error: the external server did not answer within 0.2 s"
            release.set()
            far.close()
            await far.wait_closed()
            await socket.send("proxy")
            await socket.send("question")
            assert "cannot be reached" in str(await socket.recv())
            await still_works(socket)


async def test_no_external_server_is_said() -> None:
    async with service() as server, client(server, "/ws") as socket:
        await socket.send("proxy")
        await socket.send("question")
        assert await socket.recv() == "Error: there is no external server: SPEECHBRIDGE_PROXY_URL is not set"


async def test_audio_flows_follow_one_another_and_what_follows_eos_is_the_next_flow() -> None:
    async with service(stub) as server, client(server, "/ws") as socket:
        for word in (b"one", b"two"):
            await socket.send("audio")
            await socket.send(word)
            assert await socket.recv() == f"Get {word!r}"
            for message in ("EOS", "text", "sent ahead"):
                await socket.send(message)
            assert await socket.recv() == "Audio transcribed"
            assert await socket.recv() == "Echo: sent ahead"


async def test_an_audio_flow_that_fails_keeps_the_connection() -> None:
    def failing(audio: Iterator[bytes]) -> Iterator[str]:
        yield f"heard {len(next(audio))}"
        raise ZeroDivisionError

    async with service(failing) as server, client(server, "/ws") as socket:
        await socket.send("audio")
        await socket.send(b"chunk")
        assert await socket.recv() == "heard 5"
        assert "ended early, with 1011 (the speech SDK failed: ZeroDivisionError)" in str(await socket.recv())
        await still_works(socket)


async def test_an_audio_flow_refuses_what_is_no_raw_audio_and_keeps_the_connection() -> None:
    async with service(stub) as server, client(server, "/ws") as socket:
        await socket.send("audio")
        await socket.send(b"\x1a\x45\xdf\xa3" + bytes(3200))
        assert "ended early, with 4002 (the WebM stream is damaged" in str(await socket.recv())
        await socket.send("EOS")
        await still_works(socket)


async def test_no_audio_flow_begins_while_the_service_drains() -> None:
    """It would be cut off without its last words, and hold everything up until then."""
    release = threading.Event()

    def holds(audio: Iterator[bytes]) -> Iterator[str]:
        yield f"first {len(next(audio))}"
        release.wait(PATIENCE)

    async with service(holds) as server, client(server) as other, client(server, "/ws") as socket:
        await other.send(b"audio")
        await other.recv()
        server.stop()
        sessions = server.sessions
        await until(lambda: sessions.draining)
        await socket.send("audio")
        assert "with 4010 (the service is shutting down" in str(await socket.recv())
        assert sessions.alive == 1
        release.set()


async def test_audio_that_is_not_taken_any_more_passes_by() -> None:
    def early(audio: Iterator[bytes]) -> Iterator[str]:
        yield f"heard {len(next(audio))}"

    async with service(early) as server, client(server, "/ws") as socket:
        await socket.send("audio")
        await socket.send(b"chunk")
        assert await socket.recv() == "heard 5"
        assert str(await socket.recv()).startswith("Error: the transcription ended early, with 1011")
        for message in (b"more", b"and more", "EOS"):
            await socket.send(message)
        await still_works(socket)


@pytest.mark.parametrize("flow", ["text", "file", "proxy", "audio"])
@pytest.mark.parametrize("leave", ["close", "vanish"])
async def test_a_flow_cut_at_its_first_step_leaves_nothing(flow: str, leave: str, tmp_path: Path) -> None:
    async with service(stub, files_dir=tmp_path) as server, client(server, "/ws") as socket:
        await socket.send(flow)
        if leave == "vanish":
            socket.transport.abort()
