"""OpenAI's own client, with the address changed: python examples/openai_client.py WAV [URL]"""

import asyncio
import base64
import sys
import wave

from openai import AsyncOpenAI


async def speak(connection, path):
    with wave.open(path) as file:  # mono S16LE
        audio = {"input": {"format": {"type": "audio/pcm", "rate": file.getframerate()}, "turn_detection": None}}
        await connection.session.update(session={"type": "transcription", "audio": audio})
        while samples := file.readframes(file.getframerate() // 10):
            await connection.input_audio_buffer.append(audio=base64.b64encode(samples).decode())
            await asyncio.sleep(0.1)
    await connection.input_audio_buffer.commit()


async def main(path, url="ws://127.0.0.1:8000"):
    client = AsyncOpenAI(api_key="none", websocket_base_url=f"{url}/v1")
    async with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        speaking = asyncio.create_task(speak(connection, path))
        async for event in connection:
            if event.type == "conversation.item.input_audio_transcription.delta":
                print(event.delta, end="", flush=True)
            elif event.type == "conversation.item.input_audio_transcription.completed":
                break
        await speaking
    print(f"\n{event.transcript}")


asyncio.run(main(*sys.argv[1:]))
