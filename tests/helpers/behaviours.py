"""The behaviours of the conformance checks, as scripts of the scripted recognizer."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from speechbridge.protocol.close import END_OF_INPUT
from speechbridge.testing.conformance import Behaviour
from speechbridge.testing.script import STEPS, Drop, Echo, End, Greet, StopReading, Total, Wait

if TYPE_CHECKING:
    from speechbridge.testing.script import Script

GOOD_END = End(1000, END_OF_INPUT)
DEAF_SECONDS = 3.0  # a server that has stopped reading does not notice that its client has disconnected
ANSWERS: Script = (Greet(), Echo(1), Wait(eos=True), Total(), GOOD_END)
SCRIPTS: dict[Behaviour, Script] = {
    Behaviour.ANSWERS: ANSWERS,
    Behaviour.MUTE: (Greet(), Wait()),
    Behaviour.MUTE_AFTER_A_PARTIAL: (Greet(), Echo(1), Wait()),
    Behaviour.MUTE_AFTER_THE_END: (Greet(), Echo(1), Wait(eos=True), Wait()),
    Behaviour.DEAF: (Greet(), StopReading(), Wait(seconds=DEAF_SECONDS), Drop(reset=True)),
    Behaviour.ENDS_EARLY: (Greet(), Wait(messages=1), GOOD_END),
    Behaviour.BREAKS: (Greet(), Wait(messages=1), Drop(reset=True)),
    Behaviour.REFUSES: (End(4001, "no"),),
}


def scripts(behaviour: Behaviour) -> tuple[Script, ...]:
    """Return the script of the first connection, and the one of all later connections."""
    first = SCRIPTS[behaviour]
    return (first,) if behaviour is Behaviour.REFUSES else (first, ANSWERS)


def as_json(*given: Script) -> str:
    """Return scripts as `--script` reads them."""
    names = {kind: name for name, kind in STEPS.items()}
    return json.dumps([[{"do": names[type(step)], **asdict(step)} for step in script] for script in given])
