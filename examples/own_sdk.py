"""Any sync-generator SDK behind the service, without writing an engine.

From this folder: SPEECHBRIDGE_START=own_sdk:start speechbridge serve
"""

import json


def start(audio, request):
    """Yield a message for each second of audio. A real SDK would send the audio to a service, and yield its results."""
    rate = request.content_type.byte_rate
    seconds = received = 0
    for chunk in audio:
        received += len(chunk)
        while received >= (seconds + 1) * rate:
            seconds += 1
            yield json.dumps({"type": "final", "ts": seconds - 1, "end_ts": seconds, "elements": [word(seconds)]})


def word(second):
    return {"type": "text", "value": f"second {second}", "ts": second - 1, "end_ts": second, "confidence": 1.0}
