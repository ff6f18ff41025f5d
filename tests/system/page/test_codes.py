"""The page and the Python client agree on what to do after each close code."""

from __future__ import annotations

import json
import subprocess

from speechbridge.protocol.close import CloseCode
from speechbridge.protocol.resume import COME_BACK_CODES, NEW_STREAM_CODES, RECONNECT_CODES, UNKNOWN_STREAM
from speechbridge.server.endpoints.page import FILES
from tests.helpers.needs import node

EXPORTS = f'import("{FILES / "codes.mjs"}").then((codes) => console.log(JSON.stringify(codes)))'


def test_the_page_reconnects_after_the_same_codes_as_the_python_client() -> None:
    ran = subprocess.run([node(), "--eval", EXPORTS], capture_output=True, text=True, check=True)
    codes = json.loads(ran.stdout)
    assert set(codes.pop("RECONNECT")) == set(RECONNECT_CODES)
    assert set(codes.pop("COME_BACK")) == set(COME_BACK_CODES)
    assert set(codes.pop("NEW_STREAM")) == set(NEW_STREAM_CODES)
    assert codes == {
        "ABNORMAL": CloseCode.ABNORMAL,
        "SHUTTING_DOWN": CloseCode.SHUTTING_DOWN,
        "TOO_OFTEN": CloseCode.TOO_OFTEN,
        "UNKNOWN_STREAM": UNKNOWN_STREAM,
    }
