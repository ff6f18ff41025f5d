"""The check of the speech service: it opens a stream without audio, with the SDK, as the service does.

The handshake does not show whether the server accepts the key and the request. So the check ends the input at once, and
reads the server's close frame.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from speechbridge.blocking import in_own_thread
from speechbridge.client.dial import NoConnection, dial
from speechbridge.engines import UpstreamClosed
from speechbridge.engines.embedded_process import RecognizerFailed
from speechbridge.protocol.address import Address
from speechbridge.protocol.close import NO_DATA, CloseCode, explain
from speechbridge.protocol.request import ContentType, StreamRequest
from speechbridge.server.speech import choose, choose_fallback
from speechbridge.settings import WrongSetting

if TYPE_CHECKING:
    from speechbridge.cli.doctor.findings import Case, Report
    from speechbridge.engines import Engine
    from speechbridge.settings import Settings

ANSWER_SECONDS = 10.0  # for the close frame. A guess: ours takes milliseconds
NAMES = {
    "revai": ("SPEECHBRIDGE_REVAI_URL", "SPEECHBRIDGE_REVAI_ACCESS_TOKEN"),
    "recognizer": ("SPEECHBRIDGE_RECOGNIZER_URL", "SPEECHBRIDGE_REVAI_ACCESS_TOKEN"),
}
SHOWN = {"embedded": "the embedded recognizer", "google": "Google Cloud Speech", "riva": "NVIDIA Riva"}


async def upstream(case: Case, report: Report) -> None:
    """Choose the speech service as `serve` does, and its fallback, and open a stream at each."""
    quick = case.settings.model_copy(update={"answer_seconds": min(case.settings.answer_seconds, ANSWER_SECONDS)})
    try:
        engine = await in_own_thread(lambda: choose(quick), "doctor-load")
    except WrongSetting as error:
        _wrong_setting(error, report)
        return
    try:
        fallback = await in_own_thread(lambda: choose_fallback(quick, engine), "doctor-load")
    except WrongSetting as error:
        _wrong_setting(error, report)
        fallback = None
    await _dial(engine, case.settings, report, "")
    if fallback is not None:
        await _dial(fallback, case.settings, report, "the fallback, ")


def _wrong_setting(error: WrongSetting, report: Report) -> None:
    found, _, cure = str(error).partition(": ")
    report.wrong(found, cure)


async def _dial(engine: Engine, settings: Settings, report: Report, role: str) -> None:
    """Run an engine and open a stream. The texts of its findings begin with `role`."""
    if engine.name == "function":
        report.ok(f"{settings.start} is called for each stream; there is no server to connect to")
        return
    where = settings.upstream_url
    shown = role + (Address.parse(where).shown if engine.name in NAMES else SHOWN.get(engine.name, engine.name))
    try:
        async with engine.running():
            await _open(engine, shown, report)
    except RecognizerFailed as error:
        report.wrong(f"{role}{error}", "see docs/recognizer.md, or set SPEECHBRIDGE_REVAI_URL to another server")


async def _open(engine: Engine, shown: str, report: Report) -> None:
    began = time.monotonic()
    stream = engine.open(StreamRequest(ContentType.raw()))

    def drain() -> None:
        for _ in stream.start(iter(())):
            pass

    try:
        await in_own_thread(drain, "doctor-upstream")
    except UpstreamClosed as ending:
        close = ending.close
        if close.code == CloseCode.NORMAL and close.reason == NO_DATA:
            report.ok(f"{shown} answers after {(time.monotonic() - began) * 1000:.0f} ms")
            return
        address, token = NAMES.get(engine.name, ("", ""))
        if close.code == CloseCode.UNAUTHORIZED:
            report.wrong(f"{shown} refuses the access token ({close})", f"check {token}")
        elif close.code in (CloseCode.UNAVAILABLE, CloseCode.ABNORMAL, CloseCode.NO_CODE):
            report.wrong(f"{shown}: {close.reason or 'the connection broke'}", f"start it, or check {address}")
        else:
            report.wrong(shown, explain(close))
        return
    finally:
        if stream.abort is not None:
            stream.abort()
    report.ok(f"{shown} answers after {(time.monotonic() - began) * 1000:.0f} ms")


async def others(case: Case, report: Report) -> None:
    """Connect to the servers of /relay and of the proxy flow, if they are set."""
    known = case.settings
    for name, url in (("SPEECHBRIDGE_RELAY_URL", known.relay_url), ("SPEECHBRIDGE_PROXY_URL", known.proxy_url)):
        if not url:
            continue
        address = Address.parse(url)
        try:
            async with dial(address, open_timeout=known.connect_seconds):
                report.ok(f"{name}: {address.shown} answers")
        except NoConnection as error:
            found, _, cure = str(error).rpartition(": ")
            report.wrong(f"{name}: {found}", cure)
