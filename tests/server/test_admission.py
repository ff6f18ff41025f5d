"""Who may come in, and how much of everything each may have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechbridge.cluster import Traffic
from speechbridge.protocol.close import CloseCode
from speechbridge.server.admission import Admission, Handshake, Keys, make_key
from speechbridge.server.limits import RECENT_SECONDS, Refused
from speechbridge.settings import AccessSettings

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from speechbridge.server.limits import Lease

ADDRESS = "203.0.113.7"
OTHER = "203.0.113.8"


def door(keys: tuple[str, ...] = (), *, origins: tuple[str, ...] = (), **limits: int) -> Admission:
    none = {"sessions_per_address": 0, "handshakes_per_minute": 0}
    settings = {"api_keys": ",".join(keys), "origins": ",".join(origins), **none, **limits}
    return Admission(AccessSettings.model_validate(settings))


def refusal(admission: Admission, **handshake: object) -> int | None:
    """Try to come in; return the code of the refusal, or None."""
    try:
        admission.admit(Handshake(**handshake))  # type: ignore[arg-type] # the test's own
    except Refused as refused:
        return refused.close.code
    return None


# ---- keys ------------------------------------------------------------------------------------------------------------


def test_a_key_is_known_by_its_hash() -> None:
    key, line = make_key("alice")
    assert key not in line
    assert Keys([line]).name(key) == "alice"
    assert Keys([line]).name(key + "x") is None
    assert Keys([line]).name("") is None


def test_without_keys_everybody_may_come_in_and_with_one_only_its_owner() -> None:
    key, line = make_key("alice")
    assert refusal(door()) is None
    assert refusal(door((line,)), key=key) is None
    assert refusal(door((line,))) == CloseCode.UNAUTHORIZED
    assert refusal(door((line,)), key=line) == CloseCode.UNAUTHORIZED
    assert refusal(door((line,)), key="\udcff\ud800") == CloseCode.UNAUTHORIZED


@pytest.mark.parametrize("line", ["alice", "alice:", "alice:abc", ":" + "0" * 64, "a b:" + "0" * 64, "a:" + "F" * 64])
def test_a_line_that_is_none_is_refused_and_not_shown(line: str) -> None:
    with pytest.raises(ValueError, match="line 2 is not of the form") as refused:
        Keys([make_key("alice")[1], line])
    assert line not in str(refused.value)


def test_a_name_that_would_make_no_line_is_refused() -> None:
    with pytest.raises(ValueError, match="'a:b' cannot name a key"):
        make_key("a:b")


# ---- origins ---------------------------------------------------------------------------------------------------------

OURS = ("https://captions.example.org", "http://intranet:8080")


@pytest.mark.parametrize(
    "origin", ["https://captions.example.org", "https://Captions.Example.ORG:443", "http://intranet:8080"]
)
def test_a_page_of_a_listed_origin_may_connect(origin: str) -> None:
    assert refusal(door(origins=OURS), origins=[origin], host="api.example.org") is None


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",  # foreign
        "null",  # a sandboxed frame, a file
        "",
        "https://captions.example.org.evil.example",  # prefix
        "https://evilcaptions.example.org",  # suffix
        "https://captions-example.org",  # look-alike
        "https://captions.example.org:444",
        "http://captions.example.org",  # not the scheme
        "https://captions.example.org@evil.example",
        "https://evil.example#https://captions.example.org",
        "https://captions.example.org/",
        "https://captions.example.org/path",
        "https://captions.example.org?x",
        "https://captions.example.org\\@evil.example",
        "https://c\u0430ptions.example.org",  # a Cyrillic a
        "captions.example.org",
        "https://captions.example.org, https://evil.example",
        "https://captions.example.org https://evil.example",
        "https://[captions.example.org",
        "https://captions.example.org:port",
    ],
)
def test_a_page_of_another_origin_may_not(origin: str) -> None:
    assert refusal(door(origins=OURS), origins=[origin], host="captions.example.org") == CloseCode.FOREIGN


def test_two_origins_are_one_too_many() -> None:
    assert refusal(door(origins=OURS), origins=[OURS[0], OURS[0]]) == CloseCode.FOREIGN


def test_no_origin_is_no_browser_unless_it_has_a_cookie() -> None:
    assert refusal(door(origins=OURS)) is None
    assert refusal(door(origins=OURS), has_cookie=True) == CloseCode.FOREIGN


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000", "[::1]:8000", "localhost"])
def test_our_own_page_may_connect_on_loopback(host: str) -> None:
    assert refusal(door(), origins=[f"http://{host}"], host=host) is None
    assert refusal(door(), origins=["http://localhost:9000"], host=host) == CloseCode.FOREIGN


def test_our_own_page_under_another_name_may_connect_with_a_key_only() -> None:
    """Without keys any name that an attacker points at us would be ours."""
    key, line = make_key("alice")
    page = {"origins": ["https://speech.example"], "host": "speech.example", "key": key}
    assert refusal(door((line,)), **page) is None
    assert refusal(door(), **page) == CloseCode.FOREIGN


@pytest.mark.parametrize("host", ["[", "]", "[::1", "[localhost]"])
def test_an_origin_without_a_host_is_none_of_ours_though_the_host_header_is_the_same(host: str) -> None:
    """The client got HTTP 500, and the log a traceback."""
    assert refusal(door(), origins=[f"http://{host}"], host=host) == CloseCode.FOREIGN


@given(st.text(max_size=60), st.text(max_size=60))
def test_whatever_an_origin_says_it_is_judged_and_not_let_in(origin: str, host: str) -> None:
    assert refusal(door(origins=OURS), origins=[origin], host=host) in (None, CloseCode.FOREIGN)
    if origin not in OURS and "localhost" not in origin and "127." not in origin and "::" not in origin:
        assert refusal(door(origins=OURS), origins=[origin], host=host) == CloseCode.FOREIGN


# ---- allowances ------------------------------------------------------------------------------------------------------


def test_an_address_has_so_many_connections_and_another_its_own() -> None:
    admission = door(sessions_per_address=2)
    first = admission.admit(Handshake(address=ADDRESS))
    with first.held(), admission.admit(Handshake(address=ADDRESS)).held():
        assert refusal(admission, address=ADDRESS) == CloseCode.CROWDED
        assert refusal(admission, address=OTHER) is None
    assert refusal(admission, address=ADDRESS) is None


def test_a_key_has_so_many_connections_wherever_they_come_from() -> None:
    (key, line), (other, other_line) = make_key("alice"), make_key("bob")
    admission = door((line, other_line), sessions_per_key=1)
    with admission.admit(Handshake(address=ADDRESS, key=key)).held():
        assert refusal(admission, address=OTHER, key=key) == CloseCode.CROWDED
        assert refusal(admission, address=ADDRESS, key=other) is None


def test_a_place_is_held_until_the_last_holder_leaves() -> None:
    """A stream that can be come back to outlives its connection."""
    admission = door(sessions_per_address=1)
    lease = admission.admit(Handshake(address=ADDRESS))
    stream = lease.held()
    with lease.held():
        stream.__enter__()
    assert refusal(admission, address=ADDRESS) == CloseCode.CROWDED
    assert refusal(admission, address=ADDRESS, is_resuming=True) is None
    stream.__exit__(None, None, None)
    assert refusal(admission, address=ADDRESS) is None


def test_one_that_comes_back_takes_no_second_place() -> None:
    admission = door(sessions_per_address=2)
    with (
        admission.admit(Handshake(address=ADDRESS)).held(),
        admission.admit(Handshake(address=ADDRESS, is_resuming=True)).held(),
    ):
        assert refusal(admission, address=ADDRESS) is None


def test_one_whose_stream_comes_from_another_process_takes_a_place_whatever_the_limit() -> None:
    admission = door(sessions_per_address=1)
    with admission.admit(Handshake(address=ADDRESS)).held():
        lease = admission.admit(Handshake(address=ADDRESS, is_resuming=True))
        with lease.held():
            lease.take_places()
            lease.take_places()  # once is enough
        assert refusal(admission, address=ADDRESS) == CloseCode.CROWDED
    with lease.held():
        assert refusal(admission, address=ADDRESS) == CloseCode.CROWDED
    assert refusal(admission, address=ADDRESS) is None


@given(st.lists(st.sampled_from(["come", "keep", "leave", "end"]), max_size=40))
def test_places_are_counted_right_whatever_comes_and_goes(steps: list[str]) -> None:
    """Each lease is held by its connection, and by a stream that may end before it or after it."""
    admission = door(sessions_per_address=3)
    connections: list[tuple[Lease, AbstractContextManager[None]]] = []
    streams: list[tuple[Lease, AbstractContextManager[None]]] = []
    for step in steps:
        inside = len({lease for lease, _ in connections + streams})
        if step == "come":
            expected = None if inside < 3 else CloseCode.CROWDED
            assert refusal(admission, address=ADDRESS) == expected
            if expected is None:
                lease = admission.admit(Handshake(address=ADDRESS))
                hold = lease.held()
                hold.__enter__()
                connections.append((lease, hold))
        elif step == "keep" and connections:
            lease = connections[-1][0]
            hold = lease.held()
            hold.__enter__()
            streams.append((lease, hold))
        elif step in ("leave", "end"):
            holders = connections if step == "leave" else streams
            if holders:
                holders.pop(0)[1].__exit__(None, None, None)


def test_handshakes_are_paced_per_address_and_the_reason_says_when_to_come_again() -> None:
    admission = door(handshakes_per_minute=3)
    assert [refusal(admission, address=ADDRESS) for _ in range(4)] == [None, None, None, CloseCode.TOO_OFTEN]
    assert refusal(admission, address=OTHER) is None
    with pytest.raises(Refused, match=r"try again in \d+ s"):
        admission.admit(Handshake(address=ADDRESS))


def test_a_thousand_wrong_keys_of_one_address_are_stopped_while_another_works() -> None:
    key, line = make_key("alice")
    admission = door((line,), handshakes_per_minute=30)
    codes = [refusal(admission, address=ADDRESS, key=f"guess {n}") for n in range(1000)]
    assert codes.count(CloseCode.UNAUTHORIZED) == pytest.approx(30, abs=2)  # a second or two may have passed
    assert codes.count(CloseCode.UNAUTHORIZED) + codes.count(CloseCode.TOO_OFTEN) == 1000
    assert refusal(admission, address=ADDRESS, key=key) == CloseCode.TOO_OFTEN
    assert refusal(admission, address=OTHER, key=key) is None


def test_a_key_is_paced_wherever_it_comes_from() -> None:
    key, line = make_key("alice")
    admission = door((line,), handshakes_per_minute=2)
    codes = [refusal(admission, address=f"203.0.113.{n}", key=key) for n in range(3)]
    assert codes == [None, None, CloseCode.TOO_OFTEN]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2:bbbb::2", True),  # one network has a whole /64
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:203.0.113.7", "203.0.113.7", True),
        ("::ffff:203.0.113.7", "::ffff:203.0.113.8", False),
        ("what is no address", "or is none either", True),  # a proxy that lets clients say it themselves
    ],
)
def test_what_counts_as_one_address(one: str, other: str, *, same: bool) -> None:
    admission = door(handshakes_per_minute=1)
    assert refusal(admission, address=one) is None
    assert refusal(admission, address=other) == (CloseCode.TOO_OFTEN if same else None)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_this_machine_is_not_limited(address: str) -> None:
    admission = door(handshakes_per_minute=1, sessions_per_address=1)
    with admission.admit(Handshake(address=address)).held():
        assert refusal(admission, address=address) is None


def test_bytes_and_messages_are_metered_by_the_second_over_all_connections_of_an_address() -> None:
    admission = door(bytes_per_second=100, messages_per_second=3)
    one, two = (admission.admit(Handshake(address=ADDRESS)) for _ in range(2))
    assert one.count(60, 1, now=1.0) is None
    assert (verdict := two.count(60, 1, now=1.9)) is not None
    assert verdict.code == CloseCode.TOO_MANY_BYTES
    assert [one.count(1, 1, now=2.0), two.count(1, 1, now=2.1), one.count(1, 1, now=2.2)] == [None, None, None]
    assert (verdict := two.count(1, 1, now=2.3)) is not None
    assert verdict.code == CloseCode.TOO_MANY_MESSAGES
    assert admission.admit(Handshake(address=OTHER)).count(100, 1, now=2.3) is None


def test_the_last_second_of_an_account_can_be_read_while_the_next_one_is_counted() -> None:
    limits = (admission := door(bytes_per_second=100)).limits
    lease = admission.admit(Handshake(address=ADDRESS))
    name = f"address {ADDRESS}"
    assert limits.received(7) == {}
    lease.count(30, 1, now=7.9)
    lease.count(40, 1, now=8.0)
    assert [limits.received(second)[name] for second in (6, 7, 8, 9)] == [(0, 0), (30, 1), (40, 1), (0, 0)]
    lease.count(50, 2, now=9.0)
    assert limits.received(8)[name] == (40, 1)
    assert limits.received(9 + RECENT_SECONDS) == {name: (0, 0)}
    assert limits.received(9 + RECENT_SECONDS + 1) == {}


def test_what_other_replicas_received_counts_in_one_second_and_is_not_reported() -> None:
    limits = (admission := door(bytes_per_second=100, messages_per_second=10)).limits
    lease = admission.admit(Handshake(address=ADDRESS))
    name = f"address {ADDRESS}"
    limits.add_others(7, {name: Traffic(80, 1), f"address {OTHER}": Traffic(80, 1)})
    assert lease.count(20, 1, now=7.1) is None
    assert lease.pause(1, now=7.2) == pytest.approx(0.8)
    assert limits.received(7)[name] == (21, 1)
    assert lease.count(100, 1, now=8.0) is None
    limits.add_others(8, {name: Traffic(0, 9)})
    assert (verdict := lease.count(0, 1, now=8.1)) is not None
    assert verdict.code == CloseCode.TOO_MANY_MESSAGES
    assert lease.count(100, 9, now=9.0) is None


def test_seconds_are_numbered_by_the_clock_that_was_aligned() -> None:
    limits = (admission := door(bytes_per_second=100)).limits
    limits.align(1000.25)
    lease = admission.admit(Handshake(address=ADDRESS))
    assert lease.count(60, 1, now=5.7) is None
    assert lease.count(60, 1, now=5.8) is None, "its next second has begun"
    assert lease.pause(50, now=5.85) == pytest.approx(0.9)
    assert limits.received(1005) == {f"address {ADDRESS}": (60, 1)}


def test_accounts_of_those_who_left_are_forgotten() -> None:
    admission = door(sessions_per_address=1)
    for n in range(100):
        with admission.admit(Handshake(address=f"203.0.113.{n}")).held():
            assert len(admission.limits._accounts) == 1
    assert len(admission.limits._accounts) == 0
