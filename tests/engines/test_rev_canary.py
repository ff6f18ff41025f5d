"""What rev_ai and websocket-client do inside, as far as engines/rev_stream.py and engines/rev_socket.py rely on it."""

from __future__ import annotations

import inspect

import pytest
import websocket
from rev_ai.streamingclient import RevAiStreamingClient

from speechbridge.engines import rev_frames
from speechbridge.engines.rev_socket import RevSocket
from tests.helpers import canary

SDK = "rev_ai.streamingclient:RevAiStreamingClient"
PARENT = "websocket._core:WebSocket"
BUFFER = "websocket._abnf:frame_buffer"
FRAGMENTS = "websocket._abnf:continuous_frame"

KNOWN = {
    # What the SDK does with the socket, and where its threads and its generator end.
    f"{SDK}.__init__": ("a8fadcbaf62fbd41", "rev_stream.py"),
    f"{SDK}.start": ("99f612909a4b5bca", "rev_stream.py"),
    f"{SDK}._start_send_data_thread": ("7b0ecf23bea301f6", "rev_stream.py"),
    f"{SDK}._send_data": ("bb390bbfd55d660a", "rev_stream.py"),
    f"{SDK}._get_response_generator": ("58f626e1ed3c0f96", "rev_stream.py"),
    # What is overridden.
    f"{PARENT}.__init__": ("73f95c6505c8d3bf", "rev_socket.py"),
    f"{PARENT}.connect": ("9171f16d23a91a20", "rev_socket.py"),
    f"{PARENT}.send": ("71edca86502448a8", "rev_socket.py"),
    f"{PARENT}.recv_data": ("bad4a58383434417", "rev_socket.py"),
    f"{PARENT}.settimeout": ("9d760b34d47c32e6", "rev_socket.py"),
    f"{PARENT}._recv": ("b6c58a7b3a74accc", "rev_socket.py"),
    # What calls that, or is called instead of it.
    f"{PARENT}.send_binary": ("13578d8a87614377", "rev_socket.py"),
    f"{PARENT}.send_frame": ("7086fb73f894e540", "rev_socket.py"),
    f"{PARENT}.send_close": ("a852c8c0d1a05b15", "rev_socket.py"),
    f"{PARENT}.pong": ("77df20a4966a8bee", "rev_socket.py"),
    f"{PARENT}.recv_data_frame": ("59b55f63e3bd6a2e", "rev_socket.py"),
    f"{PARENT}.recv_frame": ("d64bc012066518ac", "rev_socket.py"),
    f"{PARENT}.shutdown": ("1c72b9b1d2fc68cd", "rev_socket.py"),
    f"{BUFFER}.recv_frame": ("3a80202db484adb6", "rev_socket.py"),
    f"{BUFFER}.recv_length": ("f08d8b639100fe52", "rev_socket.py"),
    f"{BUFFER}.recv_strict": ("37bc89060d5290eb", "rev_socket.py"),
    f"{FRAGMENTS}.validate": ("0fdf3abc6b775d79", "rev_socket.py"),
    f"{FRAGMENTS}.add": ("3f964abaec5b226f", "rev_socket.py"),
    f"{FRAGMENTS}.extract": ("09894f54d8feddf9", "rev_socket.py"),
    "websocket._http:read_headers": ("7e5eb89f17f9ba0c", "rev_socket.py"),
    "websocket._socket:recv_line": ("9db5e84b9ab8463d", "rev_socket.py"),
    "websocket._socket:recv": ("54ecb8d73a1e24d8", "rev_socket.py"),
    "websocket._http:connect": ("e82e84e26b681162", "rev_socket.py"),
}


@pytest.mark.parametrize("name", KNOWN)
def test_the_code_that_ours_relies_on_is_the_code_that_was_read(name: str) -> None:
    known, ours = KNOWN[name]
    canary.check(name, known, f"speechbridge/engines/{ours}")


def test_every_name_that_is_overridden_is_watched() -> None:
    of_every_class = {"__module__", "__doc__", "__firstlineno__", "__static_attributes__"}  # the last two since 3.13
    inherited = vars(RevSocket).keys() & vars(websocket.WebSocket).keys() - of_every_class
    assert {f"{PARENT}.{name}" for name in inherited} <= KNOWN.keys()


def test_the_sdk_takes_the_socket_that_it_is_given() -> None:
    """It makes one of its own first; nothing else than its attribute `client` leads to it."""
    client = RevAiStreamingClient("token", "config")
    assert [name for name, value in vars(client).items() if isinstance(value, websocket.WebSocket)] == ["client"]


def test_masking_is_compiled_and_does_what_the_rfc_says() -> None:
    apply_mask = vars(rev_frames)["apply_mask"]
    assert inspect.isbuiltin(apply_mask)
    assert apply_mask(b"Hello", bytes.fromhex("37fa213d")) == bytes.fromhex("7f9f4d5158")  # RFC 6455, 5.7
