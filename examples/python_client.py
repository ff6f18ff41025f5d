"""Stream any audio file, and survive lost connections: python examples/python_client.py FILE [URL]"""

import asyncio
import sys
from pathlib import Path

from speechbridge import ContentType, Final, StreamRequest, connect_resumable


async def send(stream, path):
    audio = path.read_bytes()
    for start in range(0, len(audio), 4096):
        await stream.send(audio[start : start + 4096])  # waits while the service is slow or cannot be reached
        await asyncio.sleep(0.05)
    await stream.end()


async def main(path, url="ws://127.0.0.1:8000"):
    request = StreamRequest(ContentType.undeclared())
    async with connect_resumable(url, request) as stream, asyncio.TaskGroup() as tasks:  # if one task fails, both end
        tasks.create_task(send(stream, Path(path)))
        async for message in stream:
            print(message.text, end="\n" if isinstance(message, Final) else "\r")


asyncio.run(main(*sys.argv[1:]))
