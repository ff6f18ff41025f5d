"""Resumable streams: what both ends say, and when a client comes back."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import speechbridge
from speechbridge.protocol.messages import Connected, Final, Partial
from speechbridge.protocol.request import PATH
from speechbridge.protocol.resume import (
    COME_BACK_CODES,
    NEW_STREAM_CODES,
    RECONNECT_CODES,
    UNKNOWN_STREAM,
    AudioReceived,
    FinalsReceived,
    Greeting,
    Resume,
    parse_message,
)

STATIC = Path(speechbridge.__file__).parent / "server" / "static"

counts = st.integers(0, 2**40)


keys = st.text(min_size=1).filter(lambda key: key.lower() not in ("true", "false"))


@given(st.just(Resume()) | st.builds(Resume, keys, st.integers(0, 10**8 - 1)))
def test_a_query_comes_back_as_it_was(resume: Resume) -> None:
    assert Resume.parse(resume.query()) == resume


@pytest.mark.parametrize(
    ("query", "resume"),
    [
        ("", None),
        ("content_type=audio/x-wav", None),
        ("resume=false", None),
        ("resume=False&finals=3", None),
        ("resume=true&content_type=audio/x-wav", Resume()),
        ("resume=TRUE", Resume()),
        ("resume=abc", Resume("abc", 0)),
        ("resume=abc&finals=12", Resume("abc", 12)),
        ("resume=abc&finals=-1", Resume("abc", 0)),
        ("resume=abc&finals=1e3", Resume("abc", 0)),
        ("resume=abc&finals=" + "9" * 5000, Resume("abc", 0)),
    ],
)
def test_a_query_is_read_with_tolerance(query: str, resume: Resume | None) -> None:
    assert Resume.parse(query) == resume


@given(st.builds(Greeting, st.text(), st.text(), counts) | st.builds(AudioReceived, counts))
def test_a_services_message_comes_back_as_it_was(message: Greeting | AudioReceived) -> None:
    assert parse_message(message.encode()) == message


def test_messages_of_any_stream_are_read_as_ever() -> None:
    assert parse_message(Connected("1").encode()) == Connected("1")
    assert parse_message(Partial(0, 1).encode()) == Partial(0, 1)
    assert parse_message(Final(0, 1).encode()) == Final(0, 1)
    assert parse_message('{"type": "something new"}') is None


@pytest.mark.parametrize("key", [None, 1, [], {}])
@pytest.mark.parametrize("position", [None, -1, 1.5, "0", True])
def test_a_greeting_without_key_or_position_is_one_of_a_service_that_cannot_resume(
    key: object, position: object
) -> None:
    for fields in ({"resume": key, "position": 0}, {"resume": "key", "position": position}):
        assert parse_message(json.dumps({"type": "connected", "id": "1"} | fields)) == Connected("1")


@pytest.mark.parametrize("position", [None, -1, 1.5, "0", True, []])
def test_a_position_that_is_none_confirms_nothing(position: object) -> None:
    assert parse_message(json.dumps({"type": "received", "position": position})) is None


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "1", "{}", "[" * 100_000, b"\xff"])
def test_what_is_no_message_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_message(text)


@given(counts)
def test_a_confirmation_of_finals_comes_back_as_it_was(finals: int) -> None:
    assert FinalsReceived.parse(FinalsReceived(finals).encode()) == FinalsReceived(finals)


@pytest.mark.parametrize(
    "text",
    [
        *("", "EOS", "[]", "null", "{}", '{"finals": "2"}', '{"finals": -1}', '{"finals": true}', "[" * 100_000),
        '{"finals": 2, "more": "' + "x" * 200 + '"}',  # a megabyte of JSON takes a second to read
    ],
)
def test_any_other_text_confirms_nothing(text: str) -> None:
    assert FinalsReceived.parse(text) is None


LISTS = [("RECONNECT", RECONNECT_CODES), ("COME_BACK", COME_BACK_CODES), ("NEW_STREAM", NEW_STREAM_CODES)]


@pytest.mark.parametrize(("name", "codes"), LISTS)
def test_the_page_comes_back_on_the_same_codes(name: str, codes: tuple[int, ...]) -> None:
    """What it cannot import it repeats."""
    page = (STATIC / "codes.mjs").read_text()
    [listed] = re.findall(rf"^export const {name} = \[(.*?)\]", page, re.MULTILINE | re.DOTALL)
    values = dict(re.findall(r"^export const (\w+) = (\d+);", page, re.MULTILINE))
    assert sorted(int(values.get(code, code)) for code in re.findall(r"\w+", listed)) == sorted(codes)


def test_the_page_knows_a_forgotten_stream_by_the_same_code_and_asks_at_the_same_path() -> None:
    codes, stream = ((STATIC / name).read_text() for name in ("codes.mjs", "stream.mjs"))
    assert re.findall(r"^export const UNKNOWN_STREAM = (\d+);", codes, re.MULTILINE) == [f"{UNKNOWN_STREAM:d}"]
    assert re.findall(r'^const PATH = "(.*)";', stream, re.MULTILINE) == [PATH]


def test_no_code_means_both() -> None:
    assert not set(RECONNECT_CODES) & set(NEW_STREAM_CODES)
    assert set(COME_BACK_CODES) < set(RECONNECT_CODES)
    assert UNKNOWN_STREAM not in {*RECONNECT_CODES, *NEW_STREAM_CODES}
