"""Speech that can be counted: a microphone with numbered frames, and an SDK whose transcript is their numbers."""

from __future__ import annotations

import re
from array import array
from typing import TYPE_CHECKING

from speechbridge.protocol.messages import Element, Final, Partial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.async_api import Page

    from speechbridge.protocol.request import StreamRequest

FRAME = 3200  # bytes: 100 ms
UTTERANCE = 8  # frames in a final

# Each frame of the page's worklet is its number, 1600 times. The numbering continues after a reload.
MICROPHONE = """
AudioWorklet.prototype.addModule = async () => {};
window.AudioWorkletNode = class extends GainNode {
  constructor(context) {
    super(context);
    const tell = (last) => {
      const number = Number(localStorage.getItem("spoken") ?? 0) + 1;
      const samples = new Int16Array(1600).fill(number);
      this.port.onmessage?.({ data: { samples, levels: [0.1, 0.2, 0.1, 0.2], time: context.currentTime, last } });
      localStorage.setItem("spoken", number);
    };
    const timer = setInterval(() => tell(false), 100);
    this.port = { postMessage() { clearInterval(timer); tell(true); } };
  }
};
"""


def speller(audio: Iterator[bytes], request: StreamRequest) -> Iterator[str]:
    """Transcribe the number of each frame: with partials, a final every UTTERANCE frames, and one at the end."""
    begin = float(request.options.get("start_ts", 0.0))
    received, frames, words = b"", 0, list[Element]()

    def response(kind: type[Partial | Final]) -> str:
        between = [element for word in words for element in (word, Element(" ", "punct"))][:-1]
        first, last = words[0], words[-1]
        return kind(first.ts or 0, last.end_ts or 0, tuple(words if kind is Partial else between)).encode()

    for chunk in audio:
        received += chunk
        while len(received) >= FRAME:
            (number,) = array("h", received[:2])
            received = received[FRAME:]
            words.append(Element(f"w{number}", "text", begin + frames / 10, begin + (frames + 1) / 10, 0.9))
            frames += 1
            yield response(Final if len(words) == UTTERANCE else Partial)
            if len(words) == UTTERANCE:
                words.clear()
    if words:
        yield response(Final)


async def spoken(page: Page) -> int:
    """Return how many frames the microphone has produced."""
    return int(await page.evaluate("Number(localStorage.getItem('spoken'))"))


async def words(page: Page) -> list[int]:
    """Return the numbers on the page, in order."""
    text = " ".join(await page.locator("#finals p").all_inner_texts())
    return [int(number) for number in re.findall(r"w(\d+)", text)]
