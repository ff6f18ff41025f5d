"""Rev.ai's own SDK, unmodified, with this service's URL: python examples/rev_client.py FILE [URL]

FILE holds 16 kHz mono 16-bit samples in a WAV file.
"""

import json
import sys
import time
import wave

from rev_ai.models import MediaConfig
from rev_ai.streamingclient import RevAiStreamingClient


def chunks(path):
    with wave.open(path) as file:
        while audio := file.readframes(1600):
            yield audio
            time.sleep(0.1)  # as a microphone would


path, url = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "ws://127.0.0.1:8000"
client = RevAiStreamingClient("any token", MediaConfig("audio/x-raw", "interleaved", 16000, "S16LE", 1), url=url)
for response in client.start(chunks(path)):
    message = json.loads(response)
    if message["type"] == "final":
        print("".join(element["value"] for element in message["elements"]))
