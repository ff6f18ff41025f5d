"""Close codes: what each means, which one a client is told, and what it does about it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechbridge.protocol.close import (
    CURES,
    END_OF_INPUT,
    LIFETIME_REACHED,
    NO_DATA,
    REASON_BYTES,
    Close,
    CloseCode,
    explain,
    fit_reason,
)


@given(st.text())
def test_a_reason_is_cut_at_a_character(reason: str) -> None:
    fitted = fit_reason(reason)
    assert len(fitted.encode()) <= REASON_BYTES
    assert reason.encode("utf-8", "replace").decode().startswith(fitted)


def test_only_the_end_of_input_after_eos_is_a_success() -> None:
    """1000 means three things."""
    assert Close(1000, END_OF_INPUT).is_success(eos_sent=True)
    assert not Close(1000, END_OF_INPUT).is_success(eos_sent=False)
    assert not Close(1000, NO_DATA).is_success(eos_sent=True)
    assert not Close(1000, LIFETIME_REACHED).is_success(eos_sent=True)
    assert not Close(4010).is_success(eos_sent=True)


@pytest.mark.parametrize(
    ("code", "for_client"),
    [
        (1000, 1000),
        (4013, 4013),
        (1011, 1011),
        (1006, 1011),
        (1005, 1011),
        (0, 1011),
        (1012, 4010),
        (1013, 4013),
        (5000, 1011),
    ],
)
def test_codes_that_a_client_may_not_see_are_replaced(code: int, for_client: int) -> None:
    assert Close(code, "why").for_client() == Close(for_client, "why")


def test_every_close_code_has_its_cure() -> None:
    assert set(CloseCode) == set(CURES), "CURES in app/speechbridge/protocol/close.py has one for each"


@pytest.mark.parametrize("code", list(CloseCode))
def test_an_explanation_names_meaning_cure_code_and_reason(code: CloseCode) -> None:
    meaning, cure = CURES[code]
    assert explain(Close(code, "because")) == f"{meaning}: {cure} [close code {int(code)} (because)]"


def test_the_early_endings_that_share_1000_are_explained_by_their_reason() -> None:
    assert explain(Close(1000, NO_DATA)).startswith("no audio arrived for too long: ")
    assert explain(Close(1000, LIFETIME_REACHED)).startswith("the stream has reached the longest duration")


def test_a_code_that_nobody_knows_is_explained_too() -> None:
    assert explain(Close(4999)) == "the service ended the stream early: try again [close code 4999]"
