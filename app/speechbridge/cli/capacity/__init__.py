"""`speechbridge capacity`: how many streams this machine carries, with the engine and the settings that it has.

A service is started as `speechbridge serve` starts it, and loaded with more and more streams that speak 16 kHz mono in
chunks of 100 ms, each of which is answered. The speech service behind it is played by a script, and talked to by the
engine's own SDK, so what is measured is the share of this machine. Script and load run beside the service, on the same
cores: alone, it carries more.

The embedded recognizer takes far more than the service, so it is measured as well: with real speech, by how late its
finals are.
"""

import json
import statistics
import sys
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from speechbridge.cli import exits
from speechbridge.cli.capacity.climb import climb
from speechbridge.cli.capacity.others import NOTED, busy_cores
from speechbridge.cli.capacity.running import measure, running, service
from speechbridge.cli.doctor.resources import recognizer_streams
from speechbridge.cli.exits import BadInput, Failed
from speechbridge.cli.output import Quiet, Verbose, notice, write
from speechbridge.cli.screen import Screen
from speechbridge.protocol.request import PATH, ContentType
from speechbridge.server.speech import choose
from speechbridge.settings import Settings
from speechbridge.testing.load import Load, Reading
from speechbridge.testing.speaking import NoRecording, recording

MOST = 5000  # streams: more than a process carries
BOUND = 100.0  # ms, as in docs/performance.md
SHARE = 0.8  # of what was carried, to be set: a machine has more to do at times
CHUNK_MS = 100
SPEECH = 5  # times as long does each stream of the recognizer speak: finals take a while
LATE = 3.0  # seconds within which finals are to come

QUERY = f"?content_type={ContentType.raw()}&metadata={{answer}}"

# By engine: the module that plays its service, and the settings that lead there.
PLAYED = {
    "revai": (
        ["speechbridge.testing.answering"],
        {"SPEECHBRIDGE_ENGINE": "revai", "SPEECHBRIDGE_REVAI_URL": "{url}"},
    ),
    "google": (
        ["speechbridge.testing.grpc_services", "google v2"],
        {"SPEECHBRIDGE_GOOGLE_VERSION": "v2", "SPEECHBRIDGE_GOOGLE_ENDPOINT": "{url}"},
    ),
    "riva": (["speechbridge.testing.grpc_services", "riva"], {"SPEECHBRIDGE_RIVA_URL": "{url}"}),
}
BY_REVAIS_SDK = ("embedded", "recognizer")

cli = typer.Typer(rich_markup_mode=None, add_completion=False)


@cli.command()
def command(
    seconds: Annotated[float, typer.Option(min=1.0, help="How long each number of streams is measured.")] = 4.0,
    bound: Annotated[
        float, typer.Option(min=1.0, help="Milliseconds within which 99 of 100 answers are to come.")
    ] = BOUND,
    most: Annotated[int, typer.Option(min=1, max=MOST, help="Streams to try at most.")] = MOST,
    _quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Measure how many streams this machine carries.

    It says what to set, too. It takes a minute or two, and all cores.

    Nothing is sent anywhere: a script on this machine plays the speech service.
    """
    exits.run(lambda: _measure(Effort(seconds, bound, most)))


@dataclass(frozen=True)
class Effort:
    """How it is measured: see the command's options."""

    seconds: float
    bound: float
    most: int


def _measure(effort: Effort) -> None:
    if sys.platform != "linux":
        raise Failed("capacity reads CPU time and memory of processes as Linux tells them, and this is another system")
    settings = Settings.read()
    name = choose(settings).name
    with Screen.on_stderr("capacity") as screen:
        screen.bar(None, "starting")
        others = busy_cores()
        streams = carried_by_service(name, effort, screen)
        limits = [f"SPEECHBRIDGE_MAX_SESSIONS={max(1, int(SHARE * streams))}"]
        if name == "embedded":
            limits = carried_by_recognizer(min(recognizer_streams(settings), effort.most), effort, screen)
    if others > NOTED:
        write(
            f"\nOther programs kept {others:.1f} cores busy before it began: without them this machine carries more.\n"
        )
    write("\nTo leave room for what else this machine does, set:\n" + "".join(f"  {limit}\n" for limit in limits))


def carried_by_service(name: str, effort: Effort, screen: Screen) -> int:
    """Measure the service, and write what was found. Returns how many streams it carries."""
    engine = "revai" if name in BY_REVAIS_SDK else name
    if engine not in PLAYED:
        raise BadInput(f"capacity cannot play the service behind {name}: it knows embedded, {', '.join(PLAYED)}")
    module, settings = PLAYED[engine]
    with running(module, "listening on ") as (far, _):
        given = {name: value.format(url=far) for name, value in settings.items()}
        with service(**given, SPEECHBRIDGE_MAX_SESSIONS=str(MOST), SPEECHBRIDGE_FALLBACK="") as (url, pids):

            def one_reading(streams: int) -> Reading:
                screen.bar(None, f"{streams} streams")
                load = Load([url + PATH + QUERY], pids, streams, CHUNK_MS, effort.seconds, CHUNK_MS)
                return Reading(**measure("speechbridge.testing.load", json.dumps(asdict(load))))

            streams, readings = climb(one_reading, effort.most, effort.bound)
    best = readings[streams]
    kib = max(1.0, (best.resident - readings[1].resident) / max(1, streams - 1))
    with screen.hidden():
        write(
            f"{table(readings)}\nWith the SDK of {engine}, the service carries {streams} streams with a p99"
            f" under {effort.bound:.0f} ms: {streams / best.cores:.0f} a core,"
            f" {2**20 / kib:.0f} a GiB ({kib:.0f} KiB each).\n"
        )
    return streams


def table(readings: dict[int, Reading]) -> str:
    head = f"{'streams':>8}{'cores':>8}{'p50, ms':>10}{'p99, ms':>10}{'lost':>6}\n"
    return head + "".join(
        f"{streams:>8}{found.cores:>8.2f}{found.p50:>10.1f}{found.p99:>10.1f}{found.lost:>6}\n"
        for streams, found in readings.items()
    )


def carried_by_recognizer(streams: int, effort: Effort, screen: Screen) -> list[str]:
    """Measure the embedded recognizer with as many streams as it takes, or with fewer if these are too many.

    Writes what was found, and returns what is to be set.
    """
    try:
        recording()
    except NoRecording as missing:
        notice(f"the recognizer was not measured: {missing}")
        return [f"SPEECHBRIDGE_RECOGNIZER_STREAMS={streams}"]
    while True:
        screen.bar(None, f"{streams} streams in the recognizer")
        more = {"SPEECHBRIDGE_ENGINE": "embedded", "SPEECHBRIDGE_RECOGNIZER_STREAMS": str(streams)}
        with service(**more, SPEECHBRIDGE_MAX_SESSIONS=str(streams)) as (url, _):
            found = measure("speechbridge.testing.speaking", url, str(streams), str(SPEECH * effort.seconds))
        delays, failed = found["delays"], found["failed"]
        worst = statistics.quantiles(delays, n=10)[-1] if len(delays) > 1 else LATE
        with screen.hidden():
            figures = f"finals after {statistics.median(delays):.1f} s (p90 {worst:.1f} s)" if delays else "no finals"
            write(f"\nThe recognizer with {streams} streams of speech: {figures}, {failed} failed.\n")
        if (worst < LATE and not failed) or streams == 1:
            return [f"SPEECHBRIDGE_MAX_SESSIONS={streams}", f"SPEECHBRIDGE_RECOGNIZER_STREAMS={streams}"]
        streams = max(1, streams * 2 // 3)
