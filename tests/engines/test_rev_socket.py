"""The socket under Rev.ai's SDK: waits and sizes are bounded, frames are right."""

from __future__ import annotations

import io
import os
import select
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import cycle

import pytest
import websocket
from websockets.utils import accept_key

from speechbridge.engines.rev_frames import frame
from speechbridge.engines.rev_socket import FRAGMENTS, LARGEST, RevSocket, Timeouts
from tests.helpers.descriptors import open_files
from tests.helpers.rev import PATIENCE, QUICK


@pytest.mark.parametrize("tls", [False, True])
def test_each_wait_on_the_connection_is_bounded(tls: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001 # a case
    """By the kernel, or by Python where TLS would hide it."""
    ours, (near, far) = RevSocket("", QUICK), socket.socketpair()
    with near, far:
        ours.sock = near
        monkeypatch.setattr(ours, "is_ssl", lambda: tls)
        ours.settimeout(0.01)
        with pytest.raises(websocket.WebSocketTimeoutException):
            ours._recv(2)
        far.send(b"hello")
        assert ours._recv(2) == b"hello"
        with pytest.raises((BlockingIOError, TimeoutError)):
            any(ours.sock.sendall(bytes(2**16)) for _ in cycle([None]))


def test_a_refused_connection_leaves_no_descriptor_while_its_error_is_kept() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closing:
        port = closing.getsockname()[1]
    before = open_files()
    with pytest.raises(ConnectionRefusedError) as refused:
        RevSocket("", QUICK).connect(f"ws://127.0.0.1:{port}/?access_token=none")
    assert open_files() == before
    assert refused.value.__traceback__


FRAME = b"\x81\x05hello"
HEAD = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n"


@pytest.mark.parametrize("size", [1, 2, 7, 2**16])  # of the pieces in which the response arrives
def test_what_follows_the_head_of_the_response_is_the_first_frame(size: int) -> None:
    ours = RevSocket("", Timeouts(connect=PATIENCE, answer=PATIENCE))
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        connecting = pool.submit(ours.connect, f"ws://127.0.0.1:{server.getsockname()[1]}/")
        far, _ = server.accept()
        with far:
            far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            request = far.recv(2**16)
            accept = accept_key(request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r")[0].decode())
            response = f"{HEAD.format(accept)}\r\n".encode() + FRAME
            for begin in range(0, len(response), size):
                far.sendall(response[begin : begin + size])
            connecting.result(PATIENCE)
            far.sendall(FRAME)
            assert [ours.recv_data() for _ in range(2)] == [(1, b"hello")] * 2
            ours.release()


def test_an_endless_head_of_a_response_is_refused() -> None:
    ours = RevSocket("", Timeouts(connect=PATIENCE, answer=PATIENCE))
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        connecting = pool.submit(ours.connect, f"ws://127.0.0.1:{server.getsockname()[1]}/")
        far, _ = server.accept()
        with far:
            far.recv(2**16)
            with suppress(OSError):  # it has hung up
                for _ in cycle([None]):
                    far.sendall(b"x" * 2**12)
            with pytest.raises(websocket.WebSocketException):
                connecting.result(PATIENCE)
            ours.release()


def tls_pair() -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    """Two ends that speak TLS with each other. Anonymous ciphers need no certificate."""
    near, far = socket.socketpair()
    contexts = [ssl.SSLContext(protocol) for protocol in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER)]
    for context in contexts:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("AECDH:@SECLEVEL=0")
    with ThreadPoolExecutor(1) as pool:
        wrapping = pool.submit(contexts[1].wrap_socket, far, server_side=True)
        return contexts[0].wrap_socket(near), wrapping.result()


def test_under_tls_what_has_arrived_is_still_read_after_an_interrupt() -> None:
    """A send that failed interrupts, and the close frame that tells why is there already."""
    near, far = tls_pair()
    with near, far:
        upstream = RevSocket("", QUICK)
        upstream.sock = near
        far.sendall(b"\x88\x02\x0f\xa3")  # a close frame, 4003
        select.select([near], [], [], PATIENCE)
        upstream.interrupt()
        assert upstream.recv_data() == (0x8, b"\x0f\xa3")


@pytest.mark.parametrize("opcode", [websocket.ABNF.OPCODE_TEXT, websocket.ABNF.OPCODE_BINARY])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 70_000])
def test_a_frame_is_as_websocket_client_reads_it(size: int, opcode: int) -> None:
    near, far = socket.socketpair()
    with near, far:
        other = websocket.WebSocket()
        other.sock = near
        other.settimeout(PATIENCE)
        data = os.urandom(size)
        far.sendall(frame(data, opcode))
        read = other.recv_frame()
        assert (read.fin, read.opcode, read.mask, read.data) == (1, opcode, 1, data)


def test_a_close_frame_whose_reason_is_not_utf8_keeps_its_code() -> None:
    near, far = socket.socketpair()
    with near, far:
        upstream = RevSocket("", QUICK)
        upstream.sock = near
        far.sendall(b"\x88\x04\x0f\xa3n\xff")
        assert upstream.recv_data() == (0x8, b"\x0f\xa3n" + "\ufffd".encode())


@pytest.mark.parametrize("size", [LARGEST + 1, 2**40])
def test_a_frame_that_is_too_large_is_refused_before_it_arrives(size: int) -> None:
    ours, (near, far) = RevSocket("", QUICK), socket.socketpair()
    with near, far:
        ours.sock = near
        far.sendall(b"\x81\x7f" + size.to_bytes(8))
        with pytest.raises(websocket.WebSocketPayloadException):
            ours.recv_data()


def test_a_message_that_is_too_large_in_its_fragments_is_refused() -> None:
    received = fragments([b"\x01", *[b"\x00"] * 8], bytes(LARGEST // 8))
    with pytest.raises(websocket.WebSocketPayloadException):
        received.recv_data()


def test_a_message_in_too_many_fragments_is_refused() -> None:
    received = fragments([b"\x01", *[b"\x00"] * FRAGMENTS], b"")
    with pytest.raises(websocket.WebSocketPayloadException):
        received.recv_data()


def test_the_largest_message_is_taken_in_as_many_fragments_as_may_be_any_number_of_times() -> None:
    kinds = [b"\x01", *[b"\x00"] * (FRAGMENTS - 2), b"\x80"]
    received = fragments(3 * kinds, bytes(LARGEST // FRAGMENTS))
    assert [received.recv_data() for _ in range(3)] == 3 * [(1, bytes(LARGEST))]


def fragments(kinds: list[bytes], content: bytes) -> RevSocket:
    """Return a socket that reads frames of these first bytes, all with this content."""
    ours = RevSocket("", QUICK)
    size = b"\x7f" + len(content).to_bytes(8)
    arrived = io.BytesIO(b"".join(kind + size + content for kind in kinds))
    ours.frame_buffer.recv = arrived.read
    return ours
