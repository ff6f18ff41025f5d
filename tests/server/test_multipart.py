"""Forms, cut anywhere: the fields are kept, the file is given on, and both are bounded."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechbridge.protocol.api_errors import ApiError
from speechbridge.server.body import Body, announced
from speechbridge.server.multipart import FORM_BYTES, MOST_FIELDS, Multipart
from tests.helpers.forms import BOUNDARY, TYPE, form, part


class Request:
    """A request's body, in pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    async def receive(self) -> dict[str, object]:
        piece = self._pieces.pop(0) if self._pieces else b""
        return {"type": "http.request", "body": piece, "more_body": bool(self._pieces)}


def sent(*pieces: bytes, most: int = 2**24) -> Multipart:
    return Multipart(Body(Request(*pieces).receive, most), TYPE)


async def read(found: Multipart) -> bytes:
    await found.begin()
    file = b""
    while piece := await found.read():
        file += piece
    await found.finish()
    return file


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(ends)]


names = st.text(st.characters(codec="ascii", exclude_characters='"\\\r\n', exclude_categories=["Cc"]), min_size=1)
values = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"))
fields = st.lists(st.tuples(names.filter(lambda name: name != "file"), values), max_size=5)
places = st.lists(st.integers(0), max_size=8)
files = st.binary(max_size=300) | st.sampled_from([f"\r\n--{BOUNDARY}"[:-1].encode() * 3, b"\r\n--" * 50, b"\r" * 100])


@given(fields, files, fields, places)
async def test_a_form_is_read_wherever_it_is_cut(
    before: list[tuple[str, str]], file: bytes, after: list[tuple[str, str]], places: list[int]
) -> None:
    found = sent(*cut(form(*before, ("file", file), *after), places))
    assert await read(found) == file
    assert found.fields == before + after


@given(
    st.lists(
        st.sampled_from([part("a", "b"), part("file", b"c"), f"--{BOUNDARY}--".encode(), b"\r\n", b"--", b": "])
        | st.binary(max_size=20)
    ).map(b"".join),
    places,
)
async def test_any_bytes_are_a_form_or_refused(data: bytes, places: list[int]) -> None:
    with suppress(ApiError):
        await read(sent(*cut(data, places)))


async def test_the_fields_before_the_file_are_known_before_it_is_read() -> None:
    found = sent(part("model", "whisper-1") + b"\r\n" + part("file", b"begun"), b" and ended\r\n--")
    await found.begin()
    assert found.fields == [("model", "whisper-1")]
    assert await found.read() == b"begun"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (form(*[("x", "")] * (MOST_FIELDS + 1)), 400),
        (form(("x", "y" * (FORM_BYTES + 1))), 413),
        (form(*[("x", "y" * 50_000)] * 30), 413),
        (form(("file", b"a"), ("file", b"b")), 400),
        (form(("a", "b")), 400),
        (form(("file", b"a"))[:-4], 400),
        (b"", 400),
    ],
)
async def test_what_is_too_much_or_too_little_is_refused(data: bytes, status: int) -> None:
    with pytest.raises(ApiError) as caught:
        await read(sent(data))
    assert caught.value.status == status


async def test_a_body_that_is_too_large_is_413() -> None:
    with pytest.raises(ApiError) as caught:
        await read(sent(form(("file", bytes(1000))), most=999))
    assert caught.value.status == 413


@pytest.mark.parametrize(
    ("value", "size"), [(b"12", 12), (b"", 0), (b"-1", 0), (b"1e3", 0), (b"9" * 5000, 0), ("\u0662".encode(), 0)]
)
def test_a_size_that_is_announced_is_a_number(value: bytes, size: int) -> None:
    assert announced([(b"host", b"x"), (b"content-length", value)]) == size
    assert announced([]) == 0
