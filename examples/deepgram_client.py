"""Deepgram's own client, with the address changed: python examples/deepgram_client.py WAV [URL]"""

import sys
import threading
import time
import wave

from deepgram import DeepgramClient
from deepgram.environment import DeepgramClientEnvironment


def speak(connection, file):
    while samples := file.readframes(file.getframerate() // 10):
        connection.send_media(samples)
        time.sleep(0.1)
    connection.send_close_stream()


def main(path, url="ws://127.0.0.1:8000"):
    places = dict.fromkeys(("base", "production", "agent", "agent_rest"), url)
    client = DeepgramClient(api_key="none", environment=DeepgramClientEnvironment(**places))
    with wave.open(path) as file:  # S16LE
        form = {"encoding": "linear16", "sample_rate": str(file.getframerate()), "channels": str(file.getnchannels())}
        asked = {"model": "any", "interim_results": "true", "smart_format": "true"}
        with client.listen.v1.connect(**form, **asked) as connection:
            threading.Thread(target=speak, args=(connection, file)).start()
            for message in connection:
                if message.type == "Results":
                    print(message.channel.alternatives[0].transcript, end="\n" if message.is_final else "\r")


main(*sys.argv[1:])
