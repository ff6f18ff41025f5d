"""What is told to a client is in the journal, where there is one; and what is kept is bounded."""

from __future__ import annotations

from speechbridge.cluster.record import Record


def kept(room: int = 100) -> Record:
    record = Record("key", "about", room, unit=2)
    record.is_kept = True
    return record


def audio(record: Record) -> bytes:
    return b"".join(piece for _, piece in record.audio.pieces())


def test_without_a_journal_everything_is_told_at_once_and_no_audio_is_kept() -> None:
    record = Record("key", "about", 100)
    record.receive(b"audio")
    record.add("final")
    assert (record.acknowledgeable, record.deliverable, audio(record)) == (5, 1, b"")


def test_with_one_nothing_is_told_before_it_is_stored() -> None:
    record = kept()
    record.receive(b"audio")
    record.add("final")
    assert (record.acknowledgeable, record.deliverable) == (0, 0)
    record.has_stored(4, 0)
    assert (record.acknowledgeable, record.deliverable) == (4, 0)
    record.has_stored(3, 1)  # of a call that was answered late
    assert (record.acknowledgeable, record.deliverable) == (4, 1)


def test_audio_is_kept_until_finals_cover_it() -> None:
    record = kept()
    record.receive(b"12345678")
    record.settle(5)
    assert (record.begin, audio(record)) == (4, b"5678")  # in whole samples
    record.settle(4)
    assert record.settled == 5


def test_of_what_no_final_covers_only_the_latest_is_kept() -> None:
    record = kept(room=4)
    record.receive(b"123")
    record.receive(b"45678")
    assert (record.begin, audio(record)) == (4, b"5678")


def test_what_cannot_begin_in_its_middle_is_kept_as_a_whole_or_not_at_all() -> None:
    record, outgrown = kept(room=8), []
    record.is_whole, record.outgrown = True, lambda: outgrown.append(True)
    record.receive(b"12345678")
    record.settle(6)
    assert (record.begin, audio(record), outgrown) == (0, b"12345678", [])
    record.receive(b"9")
    assert outgrown


def test_finals_stay_until_they_are_confirmed() -> None:
    record = kept()
    for final in ("one", "two", "three"):
        record.add(final)
    assert [*record.confirm(2)] == ["one", "two"]
    assert (record.confirmed, [*record.finals], record.total) == (2, ["three"], 3)


def test_finals_that_cannot_wait_are_shown_and_counted() -> None:
    record = kept()
    record.add("one")
    record.has_stored(0, 1)
    record.add("two")
    assert (record.deliver_unstored(), record.deliverable, record.deliver_unstored()) == (1, 2, 0)


def test_a_client_that_has_seen_more_than_was_stored_is_gone_on_with() -> None:
    record = Record("key", "about", 100, confirmed=1)
    record.finals.append("two")
    record.is_kept = True
    record.recount(3)
    assert (record.confirmed, record.total, record.deliverable) == (3, 3, 3)
    record.add("three, again")
    assert record.total == 4
