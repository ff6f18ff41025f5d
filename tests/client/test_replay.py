"""The audio that a resumable stream keeps: until finals cover it, and what is sent again when."""

from __future__ import annotations

import math
from urllib.parse import parse_qs

import pytest

from speechbridge.client.replay import HOLD_SECONDS, PIECE, ROOM, Replay
from speechbridge.protocol.messages import Final
from speechbridge.protocol.request import ContentType, StreamRequest
from speechbridge.protocol.resume import Greeting
from tests.helpers.secrets import secret

RATE = 32_000  # bytes a second


def new(kind: ContentType | None = None, room: int | None = None, **options: float) -> Replay:
    replay = Replay(StreamRequest(kind or ContentType.raw(), options, secret()), room)
    replay.greeted(Greeting("id", "key", 0), 0.0)
    return replay


def send(replay: Replay, size: int = 0) -> bytes:
    """Append audio that tells its position, and send everything."""
    begin = replay.held
    replay.append(bytes(n % 251 for n in range(begin, begin + size)))
    return b"".join(iter(replay.next_piece, b""))


def parameters(replay: Replay) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(replay.query()).items()}


def test_audio_is_sent_once_in_small_pieces() -> None:
    replay = new()
    replay.append(bytes(2 * PIECE + 1))
    assert [len(piece) for piece in iter(replay.next_piece, b"")] == [PIECE, PIECE, 1]
    assert replay.next_piece() == b""


def test_audio_is_kept_until_a_final_covers_it() -> None:
    replay = new()
    send(replay, RATE)
    replay.acknowledge(RATE, 1.0)
    assert replay.held == RATE
    replay.settle(Final(0, 0.25))
    assert replay.held == RATE - RATE // 4


def test_a_final_may_be_in_front_of_the_acknowledgement() -> None:
    replay = new()
    send(replay, RATE)
    replay.settle(Final(0, 0.5))
    assert replay.held == RATE
    replay.acknowledge(RATE // 4, 1.0)
    assert replay.held == RATE - RATE // 4
    replay.acknowledge(RATE, 1.0)
    assert replay.held == RATE - RATE // 2


def test_the_same_stream_is_resumed_where_the_service_stands() -> None:
    replay = new()
    sent = send(replay, RATE)
    replay.settle(Final(0, 0.25))
    assert parameters(replay) == {"access_token": secret(), "resume": "key", "finals": "1"}
    assert replay.greeted(Greeting("id", "key", RATE // 2), 1.0)
    assert send(replay) == sent[RATE // 2 :]
    assert not replay.greeted(Greeting("id", "key", RATE // 2), 1.0)


def test_a_new_stream_begins_with_what_no_final_covers_and_is_told_its_time() -> None:
    replay = new(start_ts=12.5)
    sent = send(replay, RATE)
    replay.acknowledge(RATE, 1.0)
    replay.settle(Final(12.5, 12.75))
    replay.restart()
    assert parameters(replay)["start_ts"] == "12.75"
    assert parameters(replay)["resume"] == "true"
    assert "finals" not in parameters(replay)
    replay.greeted(Greeting("id", "other", 0), 2.0)
    assert send(replay) == sent[RATE // 4 :]
    replay.settle(Final(12.75, 13.0))
    assert parameters(replay) == {"access_token": secret(), "resume": "other", "finals": "1"}
    replay.acknowledge(RATE // 4, 2.0)  # of the new stream
    assert replay.held == RATE // 2
    assert replay.lost == 0


def test_only_audio_that_it_never_had_counts_as_progress_of_the_service() -> None:
    replay = new()
    send(replay, RATE)
    assert replay.acknowledge(RATE // 2, 1.0)
    assert not replay.acknowledge(RATE // 2, 1.0)
    replay.restart()
    replay.greeted(Greeting("id", "other", 0), 1.0)
    send(replay)
    assert not replay.acknowledge(RATE // 2, 1.0)
    assert replay.acknowledge(RATE, 1.0)


def test_audio_that_is_sent_again_is_known() -> None:
    replay = new()
    send(replay, 2 * PIECE)
    known = [replay.is_sent_again]
    replay.greeted(Greeting("id", "key", PIECE), 1.0)
    known.append(replay.is_sent_again)
    replay.next_piece()
    known.append(replay.is_sent_again)
    assert known == [False, True, False]


def test_a_new_stream_begins_at_a_whole_frame() -> None:
    replay = new(ContentType.raw(48000, 2))
    send(replay, 4 * 100 + 3)
    replay.settle(Final(0, 99.6 / 48000))
    replay.restart()
    assert parameters(replay)["start_ts"] == str(100 / 48000)
    replay.greeted(Greeting("id", "other", 0), 1.0)
    assert len(send(replay)) == 3


@pytest.mark.parametrize("end", [-1e308, -1.0, 0.0, 1e308, 1.0])
def test_a_final_covers_no_more_than_was_sent(end: float) -> None:
    replay = new()
    send(replay, 101)
    replay.append(bytes(99))
    replay.settle(Final(0, end))
    assert replay.settled == (100 if end > 0 else 0)


@pytest.mark.parametrize("position", [-1, 101])
def test_a_position_outside_of_the_audio_is_a_value_error(position: int) -> None:
    replay = new()
    send(replay, 100)
    with pytest.raises(ValueError, match="outside"):
        replay.greeted(Greeting("id", "key", position), 1.0)


def test_a_position_of_audio_that_is_gone_is_a_value_error() -> None:
    replay = new()
    send(replay, RATE)
    replay.settle(Final(0, 1.0))
    replay.acknowledge(RATE, 1.0)
    with pytest.raises(ValueError, match="outside"):
        replay.greeted(Greeting("id", "key", 0), 1.0)


def test_there_is_room_until_the_buffer_is_full_and_again_once_some_is_settled() -> None:
    replay = new(room=RATE)
    send(replay, RATE - 2)
    assert replay.make_room(0.0) == 0.0
    send(replay, 2)
    assert replay.make_room(0.0) == math.inf  # nothing of it is acknowledged
    replay.acknowledge(RATE, 0.0)
    assert 0.0 < replay.make_room(0.0) < HOLD_SECONDS
    replay.settle(Final(0, 0.25))
    assert replay.make_room(0.0) == 0.0


def test_silence_is_evicted_when_the_service_has_had_it_for_long() -> None:
    replay = new()
    send(replay, ROOM)
    replay.acknowledge(ROOM // 2, 10.0)
    replay.acknowledge(ROOM, 15.0)
    assert replay.make_room(9.0 + HOLD_SECONDS) == 1.0
    assert replay.make_room(10.0 + HOLD_SECONDS) == 0.0
    assert replay.held == ROOM - PIECE  # no more than there must be room for
    assert replay.lost == 0  # the service has it


def test_live_silence_never_waits_for_room_however_small_the_buffer_is() -> None:
    replay = new(room=2 * RATE)
    for second in range(100):
        assert replay.make_room(float(second)) == 0.0
        send(replay, RATE)
        replay.acknowledge((second + 1) * RATE, second + 0.9)


def test_what_was_evicted_is_lost_when_the_service_forgets_it_and_counted_once() -> None:
    replay = new(room=RATE)
    send(replay, RATE)
    replay.acknowledge(RATE, 0.0)
    replay.make_room(HOLD_SECONDS)
    for _ in range(3):
        replay.restart()
        replay.greeted(Greeting("id", "other", 0), 100.0)
        assert replay.seconds(replay.lost) == PIECE / RATE
        send(replay)


@pytest.mark.parametrize(
    "kind",
    [
        ContentType("audio/x-wav"),
        ContentType("audio/x-raw", "interleaved", 16000, "F32LE", 1),
        ContentType("audio/x-raw", "non-interleaved", 16000, "S16LE", 2),
    ],
)
def test_a_format_that_cannot_be_cut_is_kept_until_it_is_acknowledged(kind: ContentType) -> None:
    replay = new(kind, room=100)
    assert not replay.can_restart
    send(replay, 100)
    replay.settle(Final(0, 1.0))
    assert replay.make_room(HOLD_SECONDS) == math.inf
    replay.acknowledge(51, 1.0)
    assert replay.held == 49
    assert replay.make_room(1.0) == 0.0


def test_a_minute_of_any_format_is_kept() -> None:
    replay = new(ContentType.raw(48000, 2))
    replay.append(bytes(60 * 48000 * 4))
    assert replay.make_room(0.0) == 0.0
    replay = new()
    replay.append(bytes(ROOM - 1))
    assert replay.make_room(0.0) == 0.0
    replay.append(b"1")
    assert replay.make_room(0.0) == math.inf
