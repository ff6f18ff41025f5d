"""A Vosk server (github.com/alphacep/vosk-server) as an engine, with resumption, rotation and the watchdog.

From this folder: VOSK_URL=ws://localhost:2700 SPEECHBRIDGE_ENGINE=own_engine:vosk speechbridge serve
"""

import json
import os
import socket
from contextlib import suppress
from itertools import chain

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from speechbridge.engines import Capabilities, Engine, Upstream, UpstreamClosed
from speechbridge.engines.options import start_of
from speechbridge.engines.reconnect import settled_by_final
from speechbridge.engines.transcript import Transcript, Word
from speechbridge.protocol.close import Close

CAPABILITIES = Capabilities(formats=frozenset({"S16LE"}), channels=1, largest=16000, whole_samples=True)


def vosk():
    return Engine("vosk", lambda request: Stream(request).upstream, CAPABILITIES, settled_by_final)


class Stream:
    """One connection. The server answers each message with one message, so this sends and receives in turn."""

    def __init__(self, request):
        self.upstream = Upstream(self.start, self.abort, b"".join)
        self.rate, self.transcript = request.content_type.rate, Transcript(start_of(request))
        self.socket, self.is_aborted = None, False

    def start(self, audio):
        try:
            with connect(os.environ["VOSK_URL"], open_timeout=5, close_timeout=1) as server:
                self.socket = server.socket
                if self.is_aborted:  # during the connect, when there was no socket to shut down
                    return
                server.send(json.dumps({"config": {"sample_rate": self.rate, "words": True}}))
                for message in chain(audio, ['{"eof" : 1}']):
                    server.send(message)
                    yield self.message(json.loads(server.recv()))
        except (OSError, ConnectionClosed, InvalidStatus) as error:
            is_refused = isinstance(error, InvalidStatus) and error.response.status_code in {401, 403}
            raise UpstreamClosed(Close(4001 if is_refused else 1006, f"Vosk: {type(error).__name__}")) from None

    def message(self, answer):
        words = [Word(word["word"], word["start"], word["end"], word["conf"]) for word in answer.get("result", ())]
        return self.transcript.final("", words) if words else self.transcript.partial(answer.get("partial", ""))

    def abort(self):  # called in another thread: wakes the thread that sends or receives
        self.is_aborted = True
        with suppress(AttributeError, OSError):  # there is no socket yet, or it is closed
            self.socket.shutdown(socket.SHUT_RDWR)
