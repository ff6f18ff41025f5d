"""OpenAI's own client, with the address changed: python examples/openai_client.py FILE [URL]"""

import asyncio
import base64
import sys

import soundfile
from openai import AsyncOpenAI


async def send(connection, path):
    rate = soundfile.info(path).samplerate
    audio = {"input": {"format": {"type": "audio/pcm", "rate": rate}, "turn_detection": None}}
    await connection.session.update(session={"type": "transcription", "audio": audio})
    for samples in soundfile.blocks(path, rate // 10, dtype="int16"):  # 100 ms of mono
        await connection.input_audio_buffer.append(audio=base64.b64encode(samples.tobytes()).decode())
        await asyncio.sleep(0.1)
    await connection.input_audio_buffer.commit()


async def main(path, url="ws://127.0.0.1:8000"):
    client = AsyncOpenAI(api_key="none", websocket_base_url=f"{url}/v1")
    opening = client.realtime.connect(extra_query={"intent": "transcription"})
    async with opening as connection, asyncio.TaskGroup() as tasks:  # if sending or receiving fails, both end
        tasks.create_task(send(connection, path))
        async for event in connection:
            if event.type == "conversation.item.input_audio_transcription.delta":
                print(event.delta, end="", flush=True)
            elif event.type == "conversation.item.input_audio_transcription.completed":
                print(f"\n{event.transcript}")
                break


asyncio.run(main(*sys.argv[1:]))
