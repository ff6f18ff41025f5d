from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechbridge.protocol.query import MOST, count, parameters


@given(st.text(st.sampled_from("ab=&;+%41é"), max_size=40))
def test_a_query_is_read_as_the_standard_library_reads_it(query: str) -> None:
    assert dict(parameters(query)) == dict(parse_qsl(query))


def test_the_number_of_parameters_that_are_read_is_limited() -> None:
    query = "&".join(f"p{nth}={nth}" for nth in range(MOST))
    assert len(parameters(query)) == MOST
    assert count(query) == MOST
    assert parameters(f"{query}&last=1") == parameters(query)
    assert count(f"{query}&last=1") == MOST + 1


def test_what_was_read_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        parameters("language=en")["language"] = "de"  # type: ignore[index] # that is the point
