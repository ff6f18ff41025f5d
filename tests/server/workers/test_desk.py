"""What the parent gives out: leases and places are totals over the workers, and a dead one has none."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from speechbridge.protocol.close import CloseCode
from speechbridge.server.admission import Handshake
from speechbridge.server.workers.desk import Desk
from speechbridge.settings import Settings

ADDRESS = "203.0.113.7"


def desk(**settings: Any) -> Desk:
    return Desk(Settings.read(**settings), workers=2)


def asked(address: str = ADDRESS) -> dict[str, Any]:
    return asdict(Handshake(address=address))


def test_connections_of_an_address_count_over_all_workers() -> None:
    one = desk(sessions_per_address=2)
    first = one.admit("1", asked())
    assert "lease" in one.admit("2", asked())
    assert one.admit("2", asked())["refused"][0] == CloseCode.CROWDED
    one.release("1", first["lease"])
    one.release("1", first["lease"])  # once is enough
    assert "lease" in one.admit("1", asked())
    assert one.admit("1", asked())["refused"][0] == CloseCode.CROWDED


def test_a_stream_that_comes_from_elsewhere_counts() -> None:
    one = desk(sessions_per_address=1)
    coming = one.admit("1", asdict(Handshake(address=ADDRESS, is_resuming=True)))
    one.take_places("1", coming["lease"])
    assert one.admit("2", asked())["refused"][0] == CloseCode.CROWDED
    one.release("1", coming["lease"])
    one.take_places("1", coming["lease"])  # too late
    assert "lease" in one.admit("2", asked())


def test_streams_count_over_all_workers_with_threads_that_did_not_stop() -> None:
    one = desk(max_sessions=2)
    assert one.take_slot("1") == {"slot": True}
    one.abandoned("2", 1)
    assert one.take_slot("2") == {"slot": False}
    one.abandoned("2", 0)
    assert one.take_slot("2") == {"slot": True}
    assert one.slots_free == 0
    one.free_slot("1")
    assert one.slots_free == 1


def test_a_dead_worker_has_nothing() -> None:
    one = desk(sessions_per_address=1, max_sessions=1)
    assert "lease" in one.admit("1", asked())
    assert one.take_slot("1") == {"slot": True}
    assert "refused" in one.admit("2", asked())
    one.died("1")
    assert "lease" in one.admit("2", asked())
    assert one.take_slot("2") == {"slot": True}
