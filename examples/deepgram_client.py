"""Deepgram's own client, with the address changed: python examples/deepgram_client.py FILE [URL]"""

import sys
import threading
import time

import soundfile
from deepgram import DeepgramClient
from deepgram.environment import DeepgramClientEnvironment


def send(connection, path):
    for samples in soundfile.blocks(path, soundfile.info(path).samplerate // 10, dtype="int16"):
        connection.send_media(samples.tobytes())
        time.sleep(0.1)
    connection.send_close_stream()


def main(path, url="ws://127.0.0.1:8000"):
    urls = dict.fromkeys(("base", "production", "agent", "agent_rest"), url)
    client = DeepgramClient(api_key="none", environment=DeepgramClientEnvironment(**urls))
    file = soundfile.info(path)
    audio = {"encoding": "linear16", "sample_rate": str(file.samplerate), "channels": str(file.channels)}
    options = {"model": "any", "interim_results": "true", "smart_format": "true"}
    with client.listen.v1.connect(**audio, **options) as connection:
        threading.Thread(target=send, args=(connection, path)).start()
        for message in connection:
            if message.type == "Results":
                print(message.channel.alternatives[0].transcript, end="\n" if message.is_final else "\r")


main(*sys.argv[1:])
