"""`speechbridge send`: what goes to stdout, to stderr, and how it ends."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sys
from asyncio.subprocess import PIPE
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from speechbridge.cli.send import _send_file, cli
from speechbridge.client.flows import CHUNK, flows
from tests.helpers.far_side import external, serving
from tests.helpers.service import service

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator
    from pathlib import Path

    from websockets.asyncio.server import ServerConnection

pytestmark = pytest.mark.slow

NOBODY = "ws://127.0.0.1:1"


@asynccontextmanager
async def process(*arguments: str | bytes) -> AsyncIterator[Process]:
    """Run the command as a user does."""
    command = (sys.executable, "-m", "speechbridge", "send", *arguments)
    ran = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    try:
        yield ran
    finally:
        if ran.returncode is None:
            ran.kill()
        await ran.communicate()


async def send(*arguments: str | bytes) -> tuple[int | None, str, str]:
    async with process(*arguments) as ran:
        out, err = await ran.communicate()
        return ran.returncode, out.decode(), err.decode()


async def test_a_text_and_a_question_get_their_answers_on_stdout() -> None:
    async with external("answer to") as url, service(proxy_url=url) as server:
        assert await send("text", "Hello \u00e4", "--url", server.url) == (0, "Hello \u00e4\n", "")
        assert await send("proxy", "question", "--url", server.url) == (0, "answer to question\n", "")


@pytest.mark.parametrize("content", [b"", b"EOF", bytes(CHUNK) + b"EOF", os.urandom(2**20)])
async def test_a_file_is_stored_as_it_is(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "sent"
    path.write_bytes(content)
    async with service(files_dir=tmp_path / "stored") as server:
        assert await send("file", str(path), "--url", server.url) == (0, "", f"speechbridge: {path}: stored\n")
    [stored] = (tmp_path / "stored").iterdir()
    assert hashlib.sha256(stored.read_bytes()).digest() == hashlib.sha256(content).digest()


async def test_what_the_service_refuses_is_one_line_and_exit_1(tmp_path: Path) -> None:
    path = tmp_path / "sent"
    path.write_bytes(bytes(11))
    async with service(files_dir=tmp_path / "stored", max_file_bytes=10) as server:
        said = "speechbridge: proxy: there is no external server: SPEECHBRIDGE_PROXY_URL is not set\n"
        assert await send("proxy", "question", "--url", server.url) == (1, "", said)
        said = "speechbridge: file: the file is larger than 10 bytes; nothing was stored\n"
        assert await send("file", str(path), "--url", server.url) == (1, "", said)


async def test_bad_input_is_one_line_and_exit_2(tmp_path: Path) -> None:
    async with service() as server:
        missing = tmp_path / "missing"
        said = f"speechbridge: {missing}: No such file or directory: name a file that can be read\n"
        assert await send("file", str(missing), "--url", server.url) == (2, "", said)
        said = f"speechbridge: {tmp_path}: not a file: name one\n"
        assert await send("file", str(tmp_path), "--url", server.url) == (2, "", said)
        said = "speechbridge: the text is not UTF-8: write it in UTF-8\n"
        assert await send("text", b"\xff", "--url", server.url) == (2, "", said)


def test_a_service_that_is_not_there_is_one_line_and_exit_1(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli(["text", "Hello", "--url", NOBODY])
    assert ended.value.code == 1
    assert capsys.readouterr() == (
        "",
        f"speechbridge: {NOBODY} cannot be reached (Connection refused): start the service, or check the address\n",
    )


async def test_ctrl_c_is_exit_130_without_a_word() -> None:
    asked = asyncio.Event()

    async def silent(websocket: ServerConnection) -> None:
        await websocket.recv()
        asked.set()
        await websocket.wait_closed()

    async with serving(silent) as url, process("text", "Hello", "--url", url) as ran:
        await asked.wait()
        ran.send_signal(signal.SIGINT)
        assert await ran.communicate() == (b"", b"")
        assert ran.returncode == 130


async def test_a_terminal_sees_how_far_a_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[tuple[float, str]] = []
    monkeypatch.setattr("speechbridge.cli.screen.Screen.bar", lambda _screen, *told: bars.append(told))
    path = tmp_path / "sent"
    path.write_bytes(bytes(2 * CHUNK))
    async with service(files_dir=tmp_path / "stored") as server, flows(server.url) as connection:
        await _send_file(connection, path)
    assert bars == [(0.0, "0.0 / 0.1 MB"), (0.5, "0.1 / 0.1 MB"), (1.0, "0.1 / 0.1 MB")]
