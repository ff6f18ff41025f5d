"""Add the speed of speech to each final, in words per minute. Partials pass unchanged.

From this folder: SPEECHBRIDGE_PROCESSORS=processor:add_speed speechbridge serve
"""

import json


def add_speed(message):
    parsed = json.loads(message)
    words = [element for element in parsed["elements"] if element["type"] == "text"]
    seconds = parsed["end_ts"] - parsed["ts"]
    if parsed["type"] != "final" or seconds <= 0:
        return message
    return json.dumps(parsed | {"words_per_minute": round(60 * len(words) / seconds)})
