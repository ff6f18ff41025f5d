"""Deepgram's own SDK, unmodified, with this service's URL: python examples/deepgram_client.py FILE [URL]

FILE is any sound file; what it holds is told by its first bytes. Needs `pip install deepgram-sdk`.
"""

import sys
import threading
from pathlib import Path

from deepgram import DeepgramClient
from deepgram.core.events import EventType
from deepgram.environment import DeepgramClientEnvironment

path, url = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "ws://127.0.0.1:8000"
here = DeepgramClientEnvironment(base=url, production=url, agent=url, agent_rest=url)


def show(message):
    if message.type == "Results" and message.is_final:
        print(message.channel.alternatives[0].transcript)


with DeepgramClient(api_key="any", environment=here).listen.v1.connect(model="any", punctuate=True) as connection:
    connection.on(EventType.MESSAGE, show)
    listening = threading.Thread(target=connection.start_listening)
    listening.start()
    with path.open("rb") as file:
        while audio := file.read(4096):
            connection.send_media(audio)
    connection.send_close_stream()
    listening.join()
