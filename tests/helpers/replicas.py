"""Several processes of the service that share a Redis, with an upstream that counts its connections."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from speechbridge.protocol.close import END_OF_INPUT, Close
from speechbridge.protocol.messages import EOS, Connected
from tests.helpers.command import serving, url_in

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from speechbridge.recognizer.server import Connection, Refusal
    from tests.helpers.redis import RedisServer


class CountingUpstream:
    """Takes all audio and answers nothing. `most` is the largest number of connections at once."""

    def __init__(self) -> None:
        self.connections = self.most = 0

    async def admit(self, _connection: Connection) -> Refusal | None:
        return None

    async def handle(self, connection: Connection) -> None:
        self.connections += 1
        self.most = max(self.most, self.connections)
        try:
            await connection.send(Connected(connection.id).encode())
            while await connection.receive() != EOS:
                pass
            await connection.close(Close(1000, END_OF_INPUT))
        finally:
            self.connections -= 1


@contextmanager
def replicas(
    count: int, redis: RedisServer, upstream: str, **settings: str
) -> Iterator[list[tuple[subprocess.Popen[str], str]]]:
    """Run so many services for the time of the context; yield the process and the URL of each."""
    variables = {f"SPEECHBRIDGE_{name.upper()}": value for name, value in settings.items()}
    with ExitStack() as stack:
        running = [
            stack.enter_context(serving(SPEECHBRIDGE_REDIS_URL=redis.url, SPEECHBRIDGE_REVAI_URL=upstream, **variables))
            for _ in range(count)
        ]
        yield [(process, url_in(announced)) for process, announced in running]
