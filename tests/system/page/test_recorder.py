"""What a page of three lines records: the browser's own MediaRecorder, its blobs sent as they come."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import TYPE_CHECKING

import pytest

from speechbridge.protocol.messages import Final, Partial, parse_message
from speechbridge.protocol.request import PATH
from tests.helpers.browser import happens, opened, speech
from tests.helpers.clip import SPOKEN
from tests.helpers.service import service

if TYPE_CHECKING:
    from pathlib import Path

RECORD = """
async ([url, type]) => {
  window.heard = []; window.ended = 0; window.sent = 0;
  const socket = new WebSocket(url);
  await new Promise((resolve) => { socket.onopen = resolve; });
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true }); // the recording begins to play
  socket.onmessage = ({ data }) => heard.push([data, sent]);
  socket.onclose = ({ code }) => { window.ended = code; };
  const recorder = new MediaRecorder(stream, { mimeType: type });
  recorder.ondataavailable = ({ data }) => { socket.send(data); sent += data.size; };
  recorder.onstop = () => socket.send("EOS");
  recorder.start(100);
  setTimeout(() => recorder.stop(), 11000);
}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recorded", "query"),
    [
        ("audio/webm;codecs=opus", "content_type=audio/webm;codecs=opus"),
        ("audio/webm;codecs=pcm", "content_type=audio/webm"),
        ("audio/mp4;codecs=opus", ""),
    ],
)
async def test_what_a_page_records_is_heard_while_it_is_said(recorded: str, query: str, tmp_path: Path) -> None:
    async with service(None) as server, opened(server.url, microphone=speech(tmp_path)) as page:
        if not await page.evaluate("(type) => MediaRecorder.isTypeSupported(type)", recorded):
            pytest.skip(f"this browser does not record {recorded}")
        await page.evaluate(RECORD, [f"{server.url}{PATH}?{query}", recorded])
        await page.wait_for_timeout(11_000)
        await happens(page, "ended !== 0")
        ended, heard, sent = await page.evaluate("[ended, heard, sent]")
    assert ended == 1000
    messages = [(parse_message(text), at) for text, at in heard]
    finals = " ".join(message.text for message, _ in messages if isinstance(message, Final))
    # The browser works on what its microphone hears, and on a busy machine drops some: a word may be taken for another.
    assert SequenceMatcher(None, " ".join(SPOKEN).split(), finals.split()).ratio() > 0.85
    assert any(isinstance(message, Partial) and at < sent / 2 for message, at in messages)
