"""The watchdog: whatever an SDK is blocked in, it is noticed, and another attempt takes over."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING

import pytest

from syncbridge import Attempt, Resumable, Stuck
from syncbridge.ring import BLOCK
from tests.helpers.attempts import PATTERN, Break, Fault, Final, Sdk, finals, rules
from tests.helpers.puppet import PATIENCE
from tests.helpers.timer import ManualTimer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def test_the_watchdog_aborts_an_attempt_that_does_not_answer_speech_but_not_over_silence() -> None:
    clock = ManualTimer()
    quiet, speech = b"q" * BLOCK, b"S" * BLOCK  # no shorter, or they are kept in one piece, and judged as one
    aborts: list[float] = []
    judged: list[bytes] = []
    mute = iter([True, False])

    def connect(position: int) -> Attempt[bytes, Final | str]:
        if not next(mute):
            return sdk.connect(position)

        def listen(feed: Iterator[bytes]) -> Iterator[Final | str]:
            for _ in feed:
                if aborts:
                    return  # like an SDK whose generator just ends when its connection is shut
            yield from ()

        return Attempt(listen, lambda: aborts.append(clock.now))

    def source() -> Iterator[bytes]:
        yield from [quiet] * 33
        yield from [speech] * 10

    def is_speech(piece: bytes) -> bool:
        judged.append(piece)
        return piece == speech

    sdk = Sdk([])
    resumable = Resumable(connect, rules(silence=5.0, speech=is_speech, timer=clock))
    heard = finals(resumable(clock.seconds(source())))
    assert aborts == [39.0]  # speech since 34
    assert b"".join(final.text for final in heard) == quiet * 33 + speech * 10
    assert len(judged) < 2 * 43  # judging is expensive: each piece once, and few more often


def test_speech_that_shares_a_piece_with_older_silence_is_not_taken_for_as_old() -> None:
    clock = ManualTimer()
    aborts: list[float] = []

    def source() -> Iterator[bytes]:
        yield b"q"
        clock.advance(30)  # nobody speaks, so nothing is sent
        yield from [b"S"] * 3

    def listen(feed: Iterator[bytes]) -> Iterator[Final | str]:
        yield Final(0, b"".join(feed))

    watched = rules(silence=5.0, speech=lambda piece: b"S" in piece, timer=clock)
    resumable = Resumable(lambda _position: Attempt(listen, lambda: aborts.append(clock.now)), watched)
    assert finals(resumable(clock.seconds(source()))) == [Final(0, b"qSSS")]
    assert aborts == []


def test_each_mute_attempt_after_the_second_has_twice_the_time_even_beyond_the_room() -> None:
    clock = ManualTimer()
    aborts: list[float] = []

    def connect(_position: int) -> Attempt[bytes, Final | str]:
        aborted = threading.Event()

        def listen(feed: Iterator[bytes]) -> Iterator[Final | str]:
            for _ in feed:
                if aborted.is_set():
                    return
            yield from ()

        def abort() -> None:
            aborts.append(clock.now)
            aborted.set()

        return Attempt(listen, abort)

    resumable = Resumable(connect, rules(silence=5.0, room=10 * BLOCK, timer=clock))
    assert finals(resumable(clock.seconds(iter([bytes(BLOCK)] * 100)))) == []
    assert aborts == [6.0, 11.0, 21.0, 41.0, 81.0]  # 5, 5, 10, 20 and 40 seconds


def test_the_watchdog_expects_no_answer_to_input_that_is_still_to_be_replayed() -> None:
    clock = ManualTimer()
    attempts = itertools.count(1)
    aborts: list[float] = []

    def listen(feed: Iterator[bytes]) -> Iterator[Final | str]:
        attempt = next(attempts)
        for chunk in feed:
            if b"S" in chunk and attempt == 1:
                raise Break
            if attempt == 2:
                clock.advance(1)  # given again it takes its time
                if aborts:
                    return
        yield from ()

    source = iter([b"q" * BLOCK] * 9 + [b"S" * BLOCK] * 9)
    watched = rules(silence=6.0, speech=lambda piece: b"S" in piece, timer=clock)
    assert finals(Resumable(lambda _: Attempt(listen, lambda: aborts.append(clock.now)), watched)(source)) == []
    assert aborts == [15.0]  # speech since 9


def test_partials_satisfy_the_watchdog() -> None:
    clock = ManualTimer()
    sdk = Sdk([], final_every=100 * BLOCK)
    aborts: list[float] = []

    def connect(position: int) -> Attempt[bytes, Final | str]:
        return Attempt(sdk.connect(position).start, lambda: aborts.append(clock.now))

    heard = finals(Resumable(connect, rules(silence=5.0, timer=clock))(clock.seconds(iter([bytes(BLOCK)] * 30))))
    assert aborts == []
    assert [len(final.text) for final in heard] == [30 * BLOCK]


# ---- an SDK that is blocked, wherever --------------------------------------------------------------------------------


class ClosedByUs(Exception):
    """What an SDK makes of its abort. `again` does not know it."""


class Blocking:
    """An SDK whose first connections block, in one of several places, until they are aborted; the others are healthy.

    Like Rev.ai's it sends in a thread of its own. `blocked` is released once a connection blocks for good.
    """

    def __init__(self, where: str, aborted: str = "raises", times: int = 1) -> None:
        self.blocked = threading.Semaphore(0)
        self.aborts: list[float] = []
        self.healthy = Sdk([])
        self.clock = ManualTimer()
        self.resumable: Resumable[Final | str] | None = None
        self._where = where
        self._aborted = aborted
        self._times = times

    def connect(self, position: int) -> Attempt[bytes, Final | str]:
        if self._times == 0:
            return self.healthy.connect(position)
        self._times -= 1
        free = threading.Event()

        def abort() -> None:
            self.aborts.append(self.clock.now)
            free.set()

        return Attempt(lambda feed: self._listen(feed, free), abort)

    def _listen(self, feed: Iterator[bytes], free: threading.Event) -> Iterator[Final | str]:
        is_over = threading.Event()  # what it has to send
        sender = threading.Thread(target=self._send, args=(feed, free, is_over), daemon=True)
        sender.start()
        try:
            if self._where == "mute after a partial without room":
                wait_until(lambda: _waits_for_room(self.resumable))
                yield "partial"
            elif self._where in ("mute after a partial", "mute after a final"):
                assert is_over.wait(PATIENCE)
                yield "partial" if self._where == "mute after a partial" else Final(0, AUDIO)
            self.blocked.release()
            assert free.wait(PATIENCE)
            if self._aborted == "raises":
                raise ClosedByUs
            if self._aborted == "says something":
                yield "partial"
        finally:
            free.set()
            if self._where != "mute after a partial without room":  # there it waits in the feed, until this is left
                sender.join(PATIENCE)

    def _send(self, feed: Iterator[bytes], free: threading.Event, is_over: threading.Event) -> None:
        for _chunk in feed:
            if self._where == "blocked in a send":
                assert free.wait(PATIENCE)
        is_over.set()


class Stream:
    """A resumable stream that is read in a thread. Its time passes when a test says so."""

    def __init__(self, sdk: Blocking, feed: Iterator[bytes], **changed: object) -> None:
        self.heard: list[Final | str] = []
        self.error: Exception | None = None
        self.resumable = sdk.resumable = Resumable(sdk.connect, rules(timer=sdk.clock, **changed))
        self._thread = threading.Thread(target=self._read, args=[feed], daemon=True)
        self._thread.start()

    def _read(self, feed: Iterator[bytes]) -> None:
        try:
            self.heard.extend(self.resumable(feed))
        except Exception as error:  # noqa: BLE001 # it is looked at
            self.error = error

    def result(self) -> bytes:
        """Return all the input that finals cover, once the stream is over."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "it hangs"
        return b"".join(final.text for final in finals(iter(self.heard)))


AUDIO = PATTERN[:100]
PLACES = ["blocked in a send", "mute after its input ended", "mute after a partial"]


def chunks(sdk: Blocking) -> Iterator[bytes]:
    """Give a chunk a second, to rotate by; nothing is due before that."""
    return sdk.clock.seconds(iter([AUDIO[i : i + 10] for i in range(0, 100, 10)]))


@pytest.mark.parametrize("aborted", ["raises", "ends", "says something"])
@pytest.mark.parametrize("rotates", [False, True])
@pytest.mark.parametrize("where", PLACES)
def test_wherever_an_sdk_is_blocked_another_attempt_takes_over_and_nothing_is_lost(
    where: str, rotates: object, aborted: str
) -> None:
    """None of them pulls input, so nobody but the timer can look. What the SDK makes of the abort does not matter."""
    sdk = Blocking(where, aborted)
    stream = Stream(sdk, chunks(sdk), silence=20.0, lifetime=5.0 if rotates else None)
    assert sdk.blocked.acquire(timeout=PATIENCE)
    until_aborted(sdk)
    assert stream.result() == AUDIO
    assert stream.error is None
    assert len(sdk.aborts) == 1
    assert stream.resumable.statistics().breaks == 1
    assert sdk.clock.watched == 0


@pytest.mark.parametrize("where", PLACES)
def test_an_error_is_always_stuck_after_the_watchdogs_abort(where: str) -> None:
    sdk = Blocking(where)
    asked: list[Exception] = []

    def again(error: Exception) -> bool:
        asked.append(error)
        return False

    stream = Stream(sdk, chunks(sdk), silence=20.0, again=again)
    assert sdk.blocked.acquire(timeout=PATIENCE)
    until_aborted(sdk)
    assert stream.result() == b""
    assert isinstance(stream.error, Stuck)
    assert isinstance(stream.error.__cause__, ClosedByUs)
    assert asked == [stream.error]


def test_an_sdk_that_is_blocked_with_silence_is_replaced_too() -> None:
    """Otherwise nothing that is said later would ever be given to it."""
    sdk = Blocking("blocked in a send")
    stream = Stream(sdk, chunks(sdk), silence=20.0, speech=lambda _piece: False)
    assert sdk.blocked.acquire(timeout=PATIENCE)
    until_aborted(sdk)
    assert stream.result() == AUDIO


def test_an_sdk_that_is_mute_after_a_partial_while_there_is_no_room_is_replaced() -> None:
    """Nobody takes input then, so nothing but the partial is ever heard of it."""
    sdk = Blocking("mute after a partial without room")
    stream = Stream(sdk, iter([AUDIO] * 5), silence=20.0, room=250, hold=1e9)
    assert sdk.blocked.acquire(timeout=PATIENCE)
    until_watched(sdk.clock, 20.0)
    until_aborted(sdk)
    assert stream.result() == AUDIO * 5


@pytest.mark.parametrize("silence", [None, 60.0])
def test_last_words_that_do_not_come_are_bounded(silence: float | None) -> None:
    sdk = Blocking("mute after its input ended")
    stream = Stream(sdk, iter([AUDIO]), silence=silence, answer=30.0)
    assert sdk.blocked.acquire(timeout=PATIENCE)
    until_watched(sdk.clock, 30.0)
    sdk.clock.advance(29)
    assert sdk.aborts == []
    sdk.clock.advance(1)
    assert stream.result() == b""
    assert isinstance(stream.error, Stuck)
    assert str(stream.error) == "the input ended, and for 30 s nothing new came"
    assert sdk.aborts == [30.0]


def test_last_words_are_bounded_over_all_attempts() -> None:
    sdk = Blocking("mute after its input ended", times=100)
    stream = Stream(sdk, iter([AUDIO]), silence=8.0, answer=30.0)
    for until in (8.0, 16.0, 30.0):
        assert sdk.blocked.acquire(timeout=PATIENCE)
        until_watched(sdk.clock, until)
        sdk.clock.advance(until - sdk.clock.now)
    stream.result()
    assert isinstance(stream.error, Stuck)
    assert sdk.aborts == [8.0, 16.0, 30.0]  # the third would have had 16 s


def test_one_that_answered_all_before_a_rotation_and_does_not_end_is_replaced_soon() -> None:
    """The bound on last words is for the end of the stream: here words are spoken that nobody hears."""
    sdk = Blocking("mute after a final")
    stream = Stream(sdk, chunks(sdk), silence=5.0, answer=1e9, lifetime=9.5)
    assert sdk.blocked.acquire(timeout=PATIENCE)
    until_aborted(sdk)
    assert stream.result() == AUDIO
    assert stream.error is None


def test_last_words_that_do_not_come_are_no_failure_once_all_speech_is_settled() -> None:
    """Its server only forgot to close the connection."""
    sdk = Blocking("mute after a final")
    stream = Stream(sdk, iter([AUDIO, b"silence"]), answer=30.0, speech=lambda piece: piece != b"silence")
    assert sdk.blocked.acquire(timeout=PATIENCE)
    until_watched(sdk.clock, 30.0)
    sdk.clock.advance(30)
    assert stream.result() == AUDIO
    assert stream.error is None


def test_after_the_end_no_pause_goes_beyond_the_time_for_last_words() -> None:
    sdk = Sdk([Fault(at_end=True)], final_every=10**6)
    clock = ManualTimer()
    with pytest.raises(Break):
        list(Resumable(sdk.connect, rules(answer=30.0, timer=clock, pause=lambda _n: 31.0))(iter([AUDIO])))


def test_once_the_input_has_ended_an_outage_is_waited_out_no_longer_than_for_last_words() -> None:
    """No attempt had taken the input, so nobody knew that it had ended: 16 attempts waited for 30 s each."""
    clock, tries = ManualTimer(), list[float]()

    def connect(_position: int) -> Attempt[bytes, Final | str]:
        tries.append(clock.now)
        clock.advance(10)
        if clock.now == 50:
            stream.input_ended()
        raise Break

    stream = Resumable(connect, rules(answer=30.0, timer=clock, pause=lambda _n: 0.0))
    with pytest.raises(Break):
        list(stream(iter([AUDIO])))
    assert tries == [0, 10, 20, 30, 40, 50, 60, 70]  # it ended at 50


def test_last_words_that_go_on_are_not_cut_however_long_they_take() -> None:
    clock, aborts = ManualTimer(), list[float]()

    def listen(feed: Iterator[bytes]) -> Iterator[Final | str]:
        heard = b"".join(feed)
        for position in range(0, len(heard), 10):
            clock.advance(25)
            yield Final(position, heard[position : position + 10])

    resumable = Resumable(
        lambda _position: Attempt(listen, lambda: aborts.append(clock.now)), rules(answer=30.0, timer=clock)
    )
    assert b"".join(final.text for final in finals(resumable(iter([AUDIO])))) == AUDIO
    assert aborts == []


def test_an_sdk_whose_responses_nobody_reads_is_not_blamed() -> None:
    """Its answers wait for a client that does not read. To abort it would cost a connection, and change nothing."""
    clock, sdk, aborts = ManualTimer(), Sdk([]), list[float]()
    resumable = Resumable(
        lambda position: Attempt(sdk.connect(position).start, lambda: aborts.append(clock.now)),
        rules(silence=5.0, answer=5.0, timer=clock),
    )
    heard = []
    for response in resumable(iter([AUDIO] * 3)):
        clock.advance(100)
        heard.append(response)
    assert b"".join(final.text for final in finals(iter(heard))) == (AUDIO * 3)
    assert aborts == []


def test_an_attempt_that_is_aborted_while_an_eager_sdk_connects_is_aborted_again_afterwards() -> None:
    """The abort finds no connection yet; without another one nobody would ever wake the SDK."""
    aborts: list[str] = []
    connected = threading.Event()

    def start(feed: Iterator[bytes]) -> list[Final | str]:
        resumable.abort()
        connected.set()
        return []

    resumable: Resumable[Final | str] = Resumable(
        lambda _position: Attempt(start, lambda: aborts.append("late" if connected.is_set() else "early")), rules()
    )
    assert list(resumable(iter([AUDIO]))) == []
    assert aborts == ["early", "late"]


def test_a_watched_stream_leaves_no_thread_behind() -> None:
    sdk = Sdk([Fault(after=20), Fault(after=20)])
    assert b"".join(final.text for final in finals(Resumable(sdk.connect, rules(silence=60.0))(iter([AUDIO])))) == AUDIO
    for thread in threading.enumerate():
        if thread.name == "syncbridge-timer":
            thread.join(PATIENCE)
            assert not thread.is_alive()


def until_aborted(sdk: Blocking) -> None:
    """Let time pass, up to a minute."""
    for _ in range(60):
        if sdk.aborts:
            return
        sdk.clock.advance(1)
    pytest.fail("nobody noticed")


def until_watched(clock: ManualTimer, due: float) -> None:
    """Wait until somebody's look is due: the SDK's thread has found the end of its input."""
    wait_until(lambda: clock.next_due() <= due)


def wait_until(condition: Callable[[], bool]) -> None:
    """Let other threads run until a condition holds that nobody announces."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0)


def _waits_for_room(resumable: Resumable[Final | str] | None) -> bool:
    """Tell whether an SDK that asks for input is kept waiting, as there is no room."""
    attempt = resumable._attempt if resumable else None
    return attempt is not None and bool(attempt._tap._changed._waiters)  # type: ignore[attr-defined] # of a Condition


# ---- an end that does not come ---------------------------------------------------------------------------------------


class Lingering(Blocking):
    """Its connection answers all, or a part, and does not end before it is aborted."""

    def __init__(self, answers: bytes, aborted: str = "raises") -> None:
        super().__init__("mute after its input ended", aborted)
        self._answers = answers

    def _listen(self, feed: Iterator[bytes], free: threading.Event) -> Iterator[Final | str]:
        list(feed)
        yield Final(0, self._answers)
        self.blocked.release()
        assert free.wait(PATIENCE)
        if self._aborted == "raises":
            raise ClosedByUs


@pytest.mark.parametrize("aborted", ["raises", "ends"])
@pytest.mark.parametrize("answers", [AUDIO, AUDIO[:97]])
def test_an_sdk_that_has_answered_all_and_does_not_end_is_aborted_as_complete_and_that_is_a_good_end(
    aborted: str, answers: bytes
) -> None:
    sdk = Lingering(answers, aborted)
    stream = Stream(sdk, iter([AUDIO]), answer=30.0, linger=2.0, tail=5, speech=lambda _piece: False)
    assert sdk.blocked.acquire(timeout=PATIENCE)
    sdk.clock.advance(1.9)
    assert sdk.aborts == []
    sdk.clock.advance(0.1)
    assert stream.result() == answers
    assert stream.error is None
    assert sdk.aborts == [2.0]
    assert stream.resumable.statistics().breaks == 0
    assert sdk.clock.watched == 0


@pytest.mark.parametrize(("tail", "is_speech"), [(2, False), (5, True)])
def test_one_that_has_not_answered_all_is_given_the_time_for_last_words(*, tail: int, is_speech: bool) -> None:
    sdk = Lingering(AUDIO[:97])
    changed = {"answer": 30.0, "linger": 2.0, "tail": tail, "speech": lambda _piece: is_speech}
    stream = Stream(sdk, iter([AUDIO]), **changed)
    assert sdk.blocked.acquire(timeout=PATIENCE)
    sdk.clock.advance(29.0)
    assert sdk.aborts == []
    sdk.clock.advance(1.0)
    stream.result()
    assert sdk.aborts == [30.0]
