"""The vocabulary of the flows, as both ends read it."""

from __future__ import annotations

import pytest

from speechbridge.protocol import flows
from speechbridge.protocol.flows import answers_leftover, no_flow


@pytest.mark.parametrize("message", ["EOS", b"", bytes(3200)])
def test_the_answer_to_what_is_left_of_an_ended_audio_flow_is_known(message: str | bytes) -> None:
    assert answers_leftover(no_flow(message))


@pytest.mark.parametrize("message", ["", "nonsense", "EOF", "E" * 100])
def test_the_answer_to_another_text_is_an_error_of_its_own(message: str) -> None:
    answer = no_flow(message)
    assert answer.startswith(flows.ERROR)
    assert answer.endswith("send the name of a flow: text, file, proxy or audio")
    assert not answers_leftover(answer)
    assert len(answer) < 120


def test_an_echo_of_such_an_answer_is_no_such_answer() -> None:
    assert not answers_leftover(flows.ECHO + no_flow("EOS"))
