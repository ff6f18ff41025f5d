"""`speechbridge capacity`: measures how many streams this machine carries, with the configured engine and settings.

The command starts a service as `speechbridge serve` does, and loads it with more and more streams. Each stream sends
16 kHz mono in chunks of 100 ms, and each chunk is answered. A script on this machine plays the speech service, and the
service reaches it with the engine's own SDK: so the figures are for this machine's part of the work. Script and load
run on the same cores as the service: without them it carries more.

The embedded recognizer needs far more CPU than the service, so it is measured as well, with real speech: by the delay
of its finals.
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

MOST = 5000  # streams: more than one process carries
BOUND = 100.0  # ms, as in docs/performance.md
SHARE = 0.8  # of the measured streams that the command recommends: at times the machine does other work
CHUNK_MS = 100
SPEECH = 5  # streams to the recognizer last this many times as long: finals take a while
LATE = 3.0  # seconds within which finals must arrive

QUERY = f"?content_type={ContentType.raw()}&metadata={{answer}}"

# For each engine: the module that plays its service, and the settings to reach it.
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
        float, typer.Option(min=1.0, help="Milliseconds within which 99 of 100 answers must arrive.")
    ] = BOUND,
    most: Annotated[int, typer.Option(min=1, max=MOST, help="Most streams to try.")] = MOST,
    _quiet: Quiet = False,
    _verbose: Verbose = False,
) -> None:
    """Measure how many streams this machine carries.

    It also recommends settings. It takes a minute or two, and all cores.

    Nothing leaves this machine: a script here plays the speech service.
    """
    exits.run(lambda: _measure(Effort(seconds, bound, most)))


@dataclass(frozen=True)
class Effort:
    """How to measure: see the command's options."""

    seconds: float
    bound: float
    most: int


def _measure(effort: Effort) -> None:
    if sys.platform != "linux":
        raise Failed("capacity needs Linux: it reads the CPU time and the memory of processes from /proc")
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
    write("\nTo leave room for other work of this machine, set:\n" + "".join(f"  {limit}\n" for limit in limits))


def carried_by_service(name: str, effort: Effort, screen: Screen) -> int:
    """Measure the service, and write the figures. Returns how many streams it carries."""
    engine = "revai" if name in BY_REVAIS_SDK else name
    if engine not in PLAYED:
        raise BadInput(f"capacity cannot play the speech service of {name}, only of embedded, {', '.join(PLAYED)}")
    module, settings = PLAYED[engine]
    with running(module, "listening on ") as (upstream, _):
        upstream_settings = {name: value.format(url=upstream) for name, value in settings.items()}
        with service(**upstream_settings, SPEECHBRIDGE_MAX_SESSIONS=str(MOST), SPEECHBRIDGE_FALLBACK="") as (url, pids):

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
    """Measure the embedded recognizer with as many streams as its limit allows, or with fewer if these are too many.

    Writes the figures, and returns the settings to recommend.
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
