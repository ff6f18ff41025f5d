"""The channel between a worker and its parent: messages whole and in order, connections with the right ones."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import pytest

from speechbridge.server.workers.channel import HEAD, Channel, Message, pair

PATIENCE = 5.0


class Heard:
    """What came out of one end."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[tuple[Message, socket.socket | None]] = asyncio.Queue()
        self.closed = asyncio.Event()

    def received(self, message: Message, connection: socket.socket | None) -> None:
        self.messages.put_nowait((message, connection))

    async def next(self) -> tuple[Message, socket.socket | None]:
        async with asyncio.timeout(PATIENCE):
            return await self.messages.get()


def channels() -> tuple[Channel, Heard, Channel, Heard]:
    one, other = pair()
    heard_by_one, heard_by_other = Heard(), Heard()
    return (
        Channel(one, heard_by_one.received, heard_by_one.closed.set),
        heard_by_one,
        Channel(other, heard_by_other.received, heard_by_other.closed.set),
        heard_by_other,
    )


async def test_messages_come_whole_and_in_order_however_large() -> None:
    one, _, other, heard = channels()
    sent: list[dict[str, Any]] = [{"number": n, "text": "ü" * size} for n, size in enumerate((0, 1, 10**6, 3, 10**5))]
    for message in sent:
        one.send(message)
    assert [(await heard.next())[0] for _ in sent] == sent
    one.close()
    other.close()


async def test_each_connection_comes_with_its_message() -> None:
    one, _, other, heard = channels()
    pipes = [socket.socketpair() for _ in range(5)]
    for number, (near, _) in enumerate(pipes):
        one.send({"number": number, "text": "x" * 10**5})  # the socket is full in between
        one.send({"number": number}, near)
    for number, (_, far) in enumerate(pipes):
        _, none = await heard.next()
        message, connection = await heard.next()
        assert none is None
        assert connection is not None
        assert not os.get_inheritable(connection.fileno())
        connection.sendall(b"%d" % message["number"])
        assert far.recv(10) == b"%d" % number
        connection.close()
        far.close()
    one.close()
    other.close()


async def test_the_other_side_is_told_of_a_close_and_what_is_sent_then_is_closed() -> None:
    one, _, other, heard = channels()
    one.send({"last": True})
    one.close()
    assert (await heard.next())[0] == {"last": True}
    async with asyncio.timeout(PATIENCE):
        await heard.closed.wait()
    near, far = socket.socketpair()
    other.send({"too": "late"}, near)
    assert near.fileno() == -1
    far.close()
    other.close()


async def test_connections_that_nobody_took_are_closed_with_the_channel() -> None:
    """Those on their way, and one whose message was cut off."""
    ours, theirs = pair()
    heard = Heard()
    channel = Channel(ours, heard.received, heard.closed.set)
    near, far = socket.socketpair()
    socket.send_fds(theirs, [HEAD.pack(100, True) + b"{"], [near.fileno()])
    near.close()
    theirs.close()
    async with asyncio.timeout(PATIENCE):
        await heard.closed.wait()
    assert heard.messages.empty()
    far.settimeout(PATIENCE)
    assert far.recv(1) == b""  # nobody has the other end any more
    far.close()
    channel.close()


@pytest.mark.parametrize("size", [1, 4, 5, 6])
async def test_a_message_may_come_in_pieces(size: int) -> None:
    ours, theirs = pair()
    heard = Heard()
    channel = Channel(ours, heard.received, heard.closed.set)
    data = HEAD.pack(9, False) + b'{"a": 12}'
    for begin in range(0, len(data), size):
        theirs.sendall(data[begin : begin + size])
        await asyncio.sleep(0)
    assert (await heard.next())[0] == {"a": 12}
    channel.close()
    theirs.close()
