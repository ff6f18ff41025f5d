"""The page writes the same caption files as the command line: captions.mjs against captions.py."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from speechbridge.protocol.captions import to_json, to_srt, to_text, to_vtt
from speechbridge.protocol.messages import Element, Final
from tests.helpers.needs import node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent

# Values for each branch: long words, sentences, clauses, escapes, wide letters, combining marks, controls, white space.
VALUES = st.one_of(
    st.sampled_from(
        ["the", "weather", "is", "nice.", "today,", "a<b>&c", "今日は", "天気。", "x" * 50, "e\u0301", "", " "],
    ),
    st.sampled_from(["Mr.", "(Dr.", "5 p.m.", "I.", "F.", "etc.)", "$3.50", "12%", 'said."', "it.')"]),
    st.text("ab .,?!<&>\t\n\u0000\u2028日本é\u0301😀", max_size=8),
)
TIMES = st.one_of(st.none(), st.integers(-100, 60_000).map(lambda n: n / 100), st.just(1e9), st.just(0.0005))
ELEMENTS = st.builds(
    Element,
    VALUES,
    st.sampled_from(["text", "text", "text", "punct", "unknown"]),
    TIMES,
    TIMES,
    st.sampled_from([None, 0.5]),
)
FINALS = st.lists(
    st.builds(
        Final,
        st.integers(-100, 60_000).map(lambda n: n / 100),
        st.integers(-100, 60_000).map(lambda n: n / 100),
        st.lists(ELEMENTS, max_size=40).map(tuple),
    ),
    max_size=6,
)

Written = tuple[str, str, str, str]


@pytest.fixture(scope="module")
def written() -> Iterator[Callable[[list[Final]], Written]]:
    command = [node(), str(HERE / "captions_written.mjs")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout

        def write(finals: list[Final]) -> Written:
            assert process.stdin
            assert process.stdout
            process.stdin.write("[" + ",".join(final.encode() for final in finals) + "]\n")
            process.stdin.flush()
            text, srt, vtt, transcript = json.loads(process.stdout.readline())
            return text, srt, vtt, transcript

        yield write
        process.stdin.close()


@pytest.mark.shared_server
@settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow])
@given(finals=FINALS)
def test_the_page_writes_the_same_files_as_the_command_line(
    written: Callable[[list[Final]], Written], finals: list[Final]
) -> None:
    text, srt, vtt, transcript = written(finals)
    assert text == to_text(finals)
    assert srt == to_srt(finals)
    assert vtt == to_vtt(finals)
    assert json.loads(transcript) == json.loads(to_json(finals))
