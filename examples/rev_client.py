"""Rev.ai's own SDK, unmodified, with this service's URL: python examples/rev_client.py FILE [URL]"""

import json
import sys
import time

import soundfile
from rev_ai.models import MediaConfig
from rev_ai.streamingclient import RevAiStreamingClient


def chunks(path):
    for samples in soundfile.blocks(path, soundfile.info(path).samplerate // 10, dtype="int16"):
        yield samples.tobytes()
        time.sleep(0.1)  # as a microphone would


def main(path, url="ws://127.0.0.1:8000"):
    file = soundfile.info(path)
    audio = MediaConfig("audio/x-raw", "interleaved", file.samplerate, "S16LE", file.channels)
    client = RevAiStreamingClient("any token", audio, url=url)
    for response in client.start(chunks(path)):
        message = json.loads(response)
        if message["type"] == "final":
            print("".join(element["value"] for element in message["elements"]))


main(*sys.argv[1:])
