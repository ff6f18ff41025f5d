"""CPU time for a chunk with Google's and Riva's SDKs: each SDK alone, and as an engine of the service.

    python -m tests.bench.engines

The upstream is a process of its own, and answers each message with a partial. One stream sends 100 ms, waits for the
answer, and sends the next. `engine` has conversion, resumption, watchdog and bridge around the SDK: all that a session
has, without the WebSocket.
"""

from __future__ import annotations

import argparse
import asyncio
import queue
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from speechbridge.engines.reconnect import ReconnectOptions
from speechbridge.engines.streams import streams
from speechbridge.protocol.request import ContentType, StreamRequest
from speechbridge.server.speech import choose
from speechbridge.settings import Settings
from syncbridge import Bridge
from tests.helpers.grpc_services import DIALECTS, Call, SpeechResult, serving, settings_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNKS = 1500
WARM_UP = 200
CHUNK = bytes(3200)  # 100 ms
REQUEST = StreamRequest(ContentType.raw())


def echo(call: Call) -> Iterator[SpeechResult]:
    for number, _ in enumerate(call.audio()):
        yield SpeechResult((("word", 0.0, 0.1),), number / 10, is_final=False)


def alone(name: str, address: str) -> Callable[[Iterator[bytes]], Any]:
    """Return the SDK's call as its documentation shows it: an iterator of audio in, an iterator of responses out."""
    if name == "riva":
        import riva.client  # noqa: PLC0415 # an extra

        from speechbridge.engines.riva import config  # noqa: PLC0415 # imports the extra

        service = riva.client.ASRService(riva.client.Auth(uri=address))
        return lambda audio: service.streaming_response_generator(audio, config(REQUEST, "en", ""))
    import grpc  # noqa: PLC0415 # an extra
    from google.cloud import speech_v1, speech_v2  # noqa: PLC0415 # an extra

    from speechbridge.engines.google_config import config_v1, config_v2  # noqa: PLC0415 # imports the extra

    speech = speech_v1 if name == "google v1" else speech_v2
    transport = speech.SpeechClient.get_transport_class("grpc")(channel=grpc.insecure_channel(address), host=address)
    client = speech.SpeechClient(transport=transport)
    if speech is speech_v1:
        config_of_stream = config_v1(REQUEST, "en", "")
        return lambda audio: client.streaming_recognize(
            config_of_stream, (speech_v1.StreamingRecognizeRequest(audio_content=chunk) for chunk in audio)
        )

    def requests(audio: Iterator[bytes]) -> Iterator[Any]:
        yield speech_v2.StreamingRecognizeRequest(recognizer="r", streaming_config=config_v2(REQUEST, "en", ""))
        for chunk in audio:
            yield speech_v2.StreamingRecognizeRequest(audio=chunk)

    return lambda audio: client.streaming_recognize(requests=requests(audio))


def measure_alone(name: str, address: str) -> float:
    chunks: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    chunks.put(CHUNK)  # Google's SDK waits for the first response
    responses = iter(alone(name, address)(iter(chunks.get, None)))
    begun = 0.0
    for number in range(WARM_UP + CHUNKS):
        next(responses)
        if number == WARM_UP:
            begun = time.process_time()
        chunks.put(CHUNK)
    used = time.process_time() - begun
    chunks.put(None)
    list(responses)
    return used / CHUNKS * 1e6


async def measure_engine(name: str, address: str) -> float:
    engine = choose(Settings.read(**settings_for(name, address)))
    async with engine.running():
        upstream = streams(engine, ReconnectOptions())(REQUEST)
        async with Bridge(upstream.start, abort=upstream.abort, join=upstream.join) as bridge:
            begun = 0.0
            for number in range(WARM_UP + CHUNKS):
                if number == WARM_UP:
                    begun = time.process_time()
                await bridge.send(CHUNK)
                await anext(bridge)
            used = time.process_time() - begun
            bridge.end()
            async for _ in bridge:
                pass
    return used / CHUNKS * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.engines", description=__doc__.partition("\n")[0])
    parser.add_argument("--serve", choices=DIALECTS, help=argparse.SUPPRESS)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        with serving(DIALECTS[given.serve](), echo) as address:
            print(address, flush=True)
            sys.stdin.read()
        return
    if given.measure:
        what, name, address = given.measure
        print(measure_alone(name, address) if what == "alone" else asyncio.run(measure_engine(name, address)))
        return
    print("| service | SDK alone, us | engine, us | more |\n|---|---|---|---|")
    for name in DIALECTS:
        command = [sys.executable, "-m", "tests.bench.engines"]
        with subprocess.Popen([*command, "--serve", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
            assert server.stdout
            address = server.stdout.readline().decode().strip()
            found = {}
            for what in ("alone", "engine"):
                tries = [float(subprocess.check_output([*command, "--measure", what, name, address])) for _ in range(3)]
                found[what] = min(tries)
            server.communicate()
        alone_, engine = found["alone"], found["engine"]
        print(f"| {name} | {alone_:.0f} | {engine:.0f} | {engine - alone_:+.0f} |", flush=True)


if __name__ == "__main__":
    main()
