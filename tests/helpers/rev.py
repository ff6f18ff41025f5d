"""Rev.ai's SDK in a bridge, connected to the scripted recognizer."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from speechbridge.engines import UpstreamClosed
from speechbridge.engines.rev import RevEngine, Timeouts
from speechbridge.protocol.request import ContentType, StreamRequest
from speechbridge.recognizer.server import serving
from syncbridge import Bridge
from tests.helpers.secrets import secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from speechbridge.protocol.close import Close
    from speechbridge.testing.script import Scripted

PATIENCE = 5.0
REQUEST = StreamRequest(ContentType.raw())
TOKEN = secret()
QUICK = Timeouts(connect=0.3, answer=0.3)


@asynccontextmanager
async def bridged(
    scripted: Scripted, request: StreamRequest = REQUEST, timeouts: Timeouts | None = None, token: str = TOKEN
) -> AsyncIterator[Bridge[bytes, str]]:
    async with serving(scripted, handshake_timeout=None) as server:
        upstream = RevEngine(lambda: server.url + "/", token, timeouts)(request)
        async with Bridge(upstream.start, abort=upstream.abort) as bridge, asyncio.timeout(PATIENCE):
            yield bridge


async def ending(bridge: Bridge[bytes, str]) -> Close:
    with pytest.raises(UpstreamClosed) as ended:
        async for _ in bridge:
            pass
    return ended.value.close
