"""Each attack, for a moment: the attacker gets the right answer, and neighbours and memory are safe.

The delays of neighbours are only in the table of `python -m tests.attacks`: a test may run on a busy machine.
"""

from __future__ import annotations

import pytest

from tests.attacks.__main__ import run
from tests.attacks.attackers import ATTACKS

pytestmark = pytest.mark.slow

ANSWERS = {
    "refused_and_goes_on": "4001",
    "endless_headers": "HTTP/1.1 431",
    "endless_header": "HTTP/1.1 431",
    "endless_trailer": "HTTP/1.1 405",
    "pipelined_requests": "HTTP/1.1 200",
    "metrics": "answers",
    "requests_at_one_moment": "HTTP/1.1 101",
    "long_parameters": "4002",
    "pings": "1008",
    "pongs": "1008",
    "empty_messages": "1008",
    "empty_fragments": "1008",
    "confirmations": "1008",
    "huge_confirmations": "1007",
    "idle_connections": "4029",
    "endless_forms": "HTTP/1.1 400",
}  # the other attacks break no rule, and get no answer


def test_every_attack_that_breaks_a_rule_is_listed() -> None:
    assert ANSWERS.keys() < ATTACKS.keys()


@pytest.mark.parametrize("name", ATTACKS)
async def test_an_attack_is_told_and_takes_neither_neighbours_nor_memory(name: str) -> None:
    result = await run(name, 1.0)
    assert ANSWERS.get(name, "") in result.answer
    assert "a neighbour was disconnected" not in result.answer
    assert len(result.trips) > 100  # ten neighbours for about two seconds; if they stalled, there were only ten
    assert max(result.memory) < 200 * 2**20
