"""Add to each final how fast it was said, in words a minute. Partials pass unchanged.

From this folder: SPEECHBRIDGE_PROCESSORS=processor:add_speed speechbridge serve
"""

import json


def add_speed(message):
    said = json.loads(message)
    words = [element for element in said["elements"] if element["type"] == "text"]
    seconds = said["end_ts"] - said["ts"]
    if said["type"] != "final" or seconds <= 0:
        return message
    return json.dumps(said | {"words_per_minute": round(60 * len(words) / seconds)})
