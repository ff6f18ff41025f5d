"""FastAPI alone, a floor of the service's cost: the service's web server and event loop, and an answer to each message.

python -m tests.bench.echo
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI, WebSocket

from speechbridge.protocol.messages import EOS
from speechbridge.testing.answering import ANSWER

if TYPE_CHECKING:
    import socket

app = FastAPI()


@app.websocket("/")
async def echo(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(ANSWER)  # in place of the greeting
    while (await socket.receive()).get("text") != EOS:
        await socket.send_text(ANSWER)
    await socket.close()


CONFIG = uvicorn.Config(app, port=0, ws="websockets-sansio", ws_per_message_deflate=False, log_level="error")


class Announcing(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()
        print(f"listening on ws://{host}:{port}", flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=CONFIG.get_loop_factory()) as runner:
        runner.run(Announcing(CONFIG).serve())
