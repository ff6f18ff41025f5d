"""Reads a form with one file, `multipart/form-data`, as it arrives. python_multipart is imported here only.

The form's fields are kept, up to a limit. The file is passed on in pieces, and never kept as a whole.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from speechbridge.protocol.api_errors import ApiError

if TYPE_CHECKING:
    from speechbridge.server.body import Body

FILE = "file"
MOST_FIELDS = 100
FORM_BYTES = 2**20  # of the fields and the headers of all parts together

logging.getLogger("python_multipart").setLevel(logging.ERROR)  # otherwise it logs a warning for each damaged form


class Multipart:
    """A form, read from its body: the fields before the file, the file, the fields after it."""

    def __init__(self, body: Body, content_type: str) -> None:
        """Take the request's Content-Type. Raises ApiError if it is not that of a form."""
        self.fields: list[tuple[str, str]] = []
        self._body = body
        self._pieces: deque[bytes] = deque()  # of the file
        self._has_file = self._has_file_ended = self._has_ended = False
        self._kept = 0  # bytes of fields
        self._headers: dict[bytes, bytes] = {}
        self._header, self._value = bytearray(), bytearray()
        self._name: str | None = None  # the name of the current part; None for the file
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise ApiError(400, "send the request as multipart/form-data, with the audio as `file`", param=FILE)
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._on_part_begin,
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_part_data": self._on_part_data,
                    "on_part_end": self._on_part_end,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise _damaged(error) from None

    async def begin(self) -> None:
        """Read up to the file. Raises ApiError, and Left. Cancellation: can be called again."""
        while not self._has_file:
            if self._has_ended:
                raise ApiError(400, "the file is missing: send the audio as `file`", param=FILE)
            await self._more()

    async def read(self) -> bytes:
        """Return the next bytes of the file; empty at its end. Raises as `begin` does. Cancellation: none are lost."""
        while not self._pieces and not self._has_file_ended:
            await self._more()
        return self._pieces.popleft() if self._pieces else b""

    async def finish(self) -> None:
        """Read the fields after the file. Raises as `begin` does. Cancellation: can be called again."""
        while not self._has_ended:
            await self._more()
        while await self._body.read():  # bytes after the form are ignored
            pass

    async def _more(self) -> None:
        data = await self._body.read()
        if not data:
            raise ApiError(400, "the form is cut: its last boundary is missing")
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _damaged(error) from None

    # ---- the parser's callbacks --------------------------------------------------------------------------------------

    def _on_part_begin(self) -> None:
        self._headers = {}

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._keep(len(self._header) + len(self._value))
        self._headers[bytes(self._header).lower()] = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name != FILE:
            if len(self.fields) >= MOST_FIELDS:
                raise ApiError(400, f"the form has more than {MOST_FIELDS} fields")
            self._name = name
            return
        if self._has_file:
            raise ApiError(400, "the form has more than one file: send one with each request", param=FILE)
        self._name, self._has_file = None, True

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name is None:
            self._pieces.append(data[start:end])
        else:
            self._keep(end - start)
            self._value += data[start:end]

    def _on_part_end(self) -> None:
        if self._name is None:
            self._has_file_ended = True
        else:
            self.fields.append((self._name, self._value.decode("utf-8", "replace")))
        self._value = bytearray()

    def _on_end(self) -> None:
        self._has_ended = True

    def _keep(self, size: int) -> None:
        self._kept += size
        if self._kept > FORM_BYTES:
            raise ApiError(413, f"the fields of the form take more than {FORM_BYTES} bytes", code="form_too_large")


def _damaged(error: FormParserError) -> ApiError:
    return ApiError(400, f"the form is damaged: {error}")
