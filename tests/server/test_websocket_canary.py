"""Canaries: they fail when a release changes code of uvicorn or websockets that websocket.py and http.py correct."""

from __future__ import annotations

import inspect
import re

import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from speechbridge.server import http, websocket
from tests.helpers.canary import check, fingerprint

OURS = "app/speechbridge/server/websocket.py and http.py"
PARENT = "uvicorn.protocols.websockets.websockets_sansio_impl:WebSocketsSansIOProtocol"
HTTP = "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol"

# Of websockets one hash for each release that was read: 17.4, then 16.1 and 15.0.1 where they differ.
KNOWN: dict[str, tuple[str, ...]] = {
    f"{PARENT}.__init__": ("631dcd744eab875f",),
    f"{PARENT}.connection_made": ("f533ec93747c2cbf",),
    f"{PARENT}.connection_lost": ("dd116afc4d8034e1",),
    f"{PARENT}.data_received": ("c89d394077d8841d",),
    f"{PARENT}.handle_events": ("b2c9351a5d13493f",),
    f"{PARENT}.handle_connect": ("fc648c2161ff8e13",),
    f"{PARENT}.handle_cont": ("d96fe1479da61beb",),
    f"{PARENT}.handle_text": ("6ae523180cf04a01",),
    f"{PARENT}.handle_bytes": ("2b22b21bf8feb4bf",),
    f"{PARENT}.send_receive_event_to_app": ("a2b10de91477dc1d",),
    f"{PARENT}.handle_ping": ("41bcf345d372c55c",),
    f"{PARENT}.handle_pong": ("b20c68cc7e4f9bca",),
    f"{PARENT}.send_keepalive_ping": ("02da3945b3e6b110",),
    f"{PARENT}.keepalive_timeout": ("8e1ceb6ec446de9d",),
    f"{PARENT}.handle_close": ("62fd412b1f5b9e86",),
    f"{PARENT}.handle_parser_exception": ("ff5cf13c764fb332",),
    f"{PARENT}.run_asgi": ("662375aa38d9044c",),
    f"{PARENT}.send": ("d4919ed760ce9f7b",),
    f"{PARENT}.receive": ("1dc0e715390021a1",),
    f"{PARENT}.shutdown": ("e8ace796ada616b7",),
    f"{HTTP}.__init__": ("4f08999410347141",),
    f"{HTTP}.connection_made": ("6efb565ff3d36b91",),
    f"{HTTP}.connection_lost": ("c91a4c9bf2e29c55",),
    f"{HTTP}._start_asgi_task": ("9c08c2571ae9b038",),
    f"{HTTP}.data_received": ("010a7ae59a5d3b1a",),
    f"{HTTP}.handle_websocket_upgrade": ("179c4f769386ab89",),
    f"{HTTP}.send_400_response": ("ae5a4a3782b646fd",),
    f"{HTTP}.on_message_begin": ("96d377fdc7c2baef",),
    f"{HTTP}.on_headers_complete": ("1ea8589acfad92d8",),
    f"{HTTP}.on_body": ("dba9c32aeba35b6a",),
    f"{HTTP}.on_response_complete": ("64e254f28e389e76",),
    "uvicorn.protocols.http.httptools_impl:RequestResponseCycle.send": ("abdd8601b326a8da",),
    "uvicorn.protocols.http.flow_control:FlowControl": ("126debcdaa894c83",),
    "uvicorn.server:Server.__init__": ("c150b55284f7511e",),
    "uvicorn.server:Server.serve": ("112ef41af52167e3",),
    "uvicorn.server:Server._serve": ("4575b7a50adfede8",),
    "uvicorn.server:Server.startup": ("2aa1d70a244bfcf2",),
    "uvicorn.server:Server.main_loop": ("afccb353a119333f",),
    "uvicorn.server:Server.on_tick": ("60ea49b06ccf68c1",),
    "uvicorn.server:Server.shutdown": ("9b33c50562992b1e",),
    "uvicorn.server:Server.capture_signals": ("e1bbcd4770d1c887",),
    "uvicorn.server:Server.handle_exit": ("553276efa26e09ea",),
    "websockets.protocol:Protocol.fail": ("924ae7075dc75a9d", "ca30a79d11c68cfa", "e2d815f7b0a745d9"),
    "websockets.protocol:Protocol.receive_data": ("df57bef09335e176", "1a56e02e82323434"),
    "websockets.protocol:Protocol.data_to_send": ("959589a5e74ef26f",),
    "websockets.protocol:Protocol.parse": ("45aaf900644b63c4", "23201830ee7d2f92"),
    "websockets.protocol:Protocol.discard": ("c40ae1ef57fd326c", "f4a00f7f9f21863c"),
    "websockets.protocol:Protocol.recv_frame": ("4f83d3b90ea62428", "d66e0434573f4f2a", "663bbcb5a543b8b4"),
    "websockets.server:ServerProtocol.parse": ("8c4d10340de4d32f", "70dba1c6c9bf6fa0"),
    "websockets.server:ServerProtocol.send_response": ("0676fec30e39473d", "4a3ab6beaaa3de15"),
}

PAIRS: list[tuple[type, type]] = [
    (websocket.WebSocketProtocol, WebSocketsSansIOProtocol),
    (http.HttpProtocol, HttpToolsProtocol),
    (websocket.UvicornServer, uvicorn.Server),
    (http._Flow, FlowControl),
]


@pytest.mark.parametrize("name", KNOWN)
def test_the_code_that_is_corrected_is_the_code_that_was_read(name: str) -> None:
    found = fingerprint(name)
    check(name, found if found in KNOWN[name] else KNOWN[name][0], OURS)


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_every_method_that_is_overridden_is_watched_and_listed(ours: type, theirs: type) -> None:
    overridden = {
        name for name, value in vars(ours).items() if callable(value) and hasattr(object, name) < hasattr(theirs, name)
    }
    assert overridden
    for name in overridden:
        assert any(known.endswith((f":{theirs.__name__}.{name}", f":{theirs.__name__}")) for known in KNOWN), name
        assert name in f"{websocket.__doc__} {http.__doc__}"


def test_our_additions_hide_nothing_of_the_parents() -> None:
    """A release may bring a private name that we use already."""
    for ours, theirs in PAIRS:
        private = set(re.findall(r"\bself\.(_\w+)", inspect.getsource(ours)))
        assert private
        assert not private & (set(dir(theirs)) | set(re.findall(r"\bself\.(_\w+)", inspect.getsource(theirs))))
