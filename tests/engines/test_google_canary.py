"""What google-api-core and gRPC do inside, as far as engines/google.py and engines/grpc_channels.py rely on it."""

from __future__ import annotations

import pytest

from tests.helpers import canary

grpc = pytest.importorskip("grpc", reason="gRPC is not installed: pip install '.[google]'")
pytest.importorskip("google.api_core", reason="google-cloud-speech is not installed: pip install '.[google]'")

KNOWN = {
    # What reads the switch `_prefetch_first_result_`, and what it switches.
    "google.api_core.grpc_helpers:_wrap_stream_errors": ("5372911b732ec2db", "google.py"),
    "google.api_core.grpc_helpers:_StreamingResponseIterator.__init__": ("4f06d4cd7a20f65d", "google.py"),
    # Where a channel's thread looks on, and dies if the channel is closed.
    "grpc._channel:_poll_connectivity": ("edeaf68c8ebc86ce", "grpc_channels.py"),
    "grpc._channel:_subscribe": ("2454361d609f95f6", "grpc_channels.py"),
    "grpc._channel:_unsubscribe": ("dd3cb01904f6353b", "grpc_channels.py"),
}

CHANNEL = grpc.insecure_channel("127.0.0.1:1")  # stays open: gRPC closes descriptors a moment after their channel


def test_a_channel_tells_whether_a_thread_looks_at_it() -> None:
    assert vars(CHANNEL)["_connectivity_state"].polling is False


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_relied_on_is_what_was_read(name: str) -> None:
    known, ours = KNOWN[name]
    canary.check(name, known, ours)
