"""The flows of `/ws`: any number of them on one connection, one after the other. Pure.

A text message names a flow. The messages that follow belong to this flow, until it has been answered:

    text     a text                              `Echo: ` and the text
    file     binary messages, then `EOF`         `File received successfully`
    proxy    a text                              `External response: ` and another server's answer to it
    audio    16 kHz mono S16LE, then `EOS`       each response as a text, then `Audio transcribed`

A flow that fails is answered by one text that begins with `Error: `, and the connection stays usable.
"""

from __future__ import annotations

import re

PATH = "/ws"

TEXT, FILE, PROXY, AUDIO = "text", "file", "proxy", "audio"

EOF = "EOF"
END_OF_FILE = (EOF, EOF.encode())  # ends a file, as a text or as a binary message: clients send both

ECHO = "Echo: "
EXTERNAL = "External response: "
STORED = "File received successfully"
TRANSCRIBED = "Audio transcribed"
ERROR = "Error: "

_UNASKED = re.compile(ERROR + r"('EOS'|a binary message of \d+ bytes) is no flow")


def no_flow(message: bytes | str) -> str:
    """Return the answer to a message that should have named a flow and does not."""
    if isinstance(message, bytes):
        shown = f"a binary message of {len(message)} bytes"
    else:
        shown = repr(message if len(message) <= 40 else message[:37] + "...")
    return f"{ERROR}{shown} is no flow: send the name of a flow: {TEXT}, {FILE}, {PROXY} or {AUDIO}"


def answers_leftover(answer: str) -> bool:
    """Tell whether a text answers audio or an EOS that arrived after the service had ended the flow.

    Such an answer belongs to no flow, and a client ignores it.
    """
    return _UNASKED.match(answer) is not None
