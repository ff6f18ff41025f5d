"""docker-compose.yml as one runs it: built, healthy, confined, heard through https and wss, stopped."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import urllib.error
import urllib.request
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.client import connect

from speechbridge.client.flows import flows
from speechbridge.protocol.messages import Element, Final
from tests.helpers.clip import READING, chunks, words_right
from tests.helpers.command import speechbridge
from tests.helpers.secrets import secret
from tests.helpers.service import STREAM, ending
from tests.helpers.stack import AUTHORITY, HALF_HELLO, SECONDS, SERVICES, Stack, running, what_is_missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

if missing := what_is_missing():
    pytest.skip(f"containers cannot be run: {missing}", allow_module_level=True)

STREAMS = 20
SPOKEN = 15  # chunks of 100 ms: a few words
HALF_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
SECRET = secret()


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    roomy = {"SPEECHBRIDGE_RECOGNIZER_STREAMS": str(STREAMS), "RECOGNIZER_MEMORY": "3g"}
    with running(**roomy, SPEECHBRIDGE_DRAIN_SECONDS="25") as stack:  # a busy machine decodes slowly
        yield stack


@pytest.fixture(scope="module")
def authority(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate by which Caddy's own authority is trusted."""
    file = tmp_path_factory.mktemp("authority") / "root.crt"
    file.write_text(stack.within("caddy", f"cat {AUTHORITY}"))
    return file


@pytest.fixture(scope="module")
def trust(authority: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority))


@pytest.mark.parametrize("service", SERVICES)
def test_each_container_may_do_little(service: str, stack: Stack) -> None:
    told = stack.within(service, "cat /proc/1/status; touch /etc/here")
    assert "Read-only file system" in told
    status = dict(re.findall(r"(\w+):\s+(\S+)", told))
    assert status["Uid"] != "0"
    assert int(status["CapEff"], 16) == 0
    assert int(status["CapBnd"], 16) == (1 << 10 if service == "caddy" else 0)  # NET_BIND_SERVICE
    assert status["NoNewPrivs"] == "1"
    limits = stack.inspect(service)["HostConfig"]
    assert limits["Memory"] > 0
    assert limits["PidsLimit"] > 0
    assert limits["LogConfig"]["Config"]["max-size"]


def test_speech_through_wss_gives_text(stack: Stack, authority: Path) -> None:
    """Decoded by the container that is there for it."""
    url = f"wss://{stack.origin}"
    ran = speechbridge("transcribe", "--pace", "fast", "--url", url, str(READING), SSL_CERT_FILE=str(authority))
    assert ran.returncode == 0, ran.stderr
    assert words_right([Final(0, 0, tuple(map(Element, line.split()))) for line in ran.stdout.splitlines()]) > 0.8
    assert "speechbridge.recognizer" not in stack.within("service", "cat /proc/[0-9]*/cmdline")


def fetch(url: str, trust: ssl.SSLContext) -> tuple[int, dict[str, str]]:
    try:
        with urllib.request.urlopen(url, context=trust, timeout=5) as answer:  # noqa: S310 # a URL of ours
            return answer.status, dict(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers)


def test_the_page_comes_by_https(stack: Stack, trust: ssl.SSLContext) -> None:
    status, headers = fetch(f"https://{stack.origin}/", trust)
    assert status == 200
    assert headers["Content-Type"].startswith("text/html")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert "Strict-Transport-Security" not in headers  # localhost is everybody's
    redirected = stack.within("service", "python - <<'END'\n" + REDIRECT + "END")
    hosts = "localhost", "example.org", "[::1]"
    assert redirected.splitlines() == [f"308 https://{host}:{stack.https_port}/livez" for host in hosts]


REDIRECT = """
from http.client import HTTPConnection
for host in ("localhost", "example.org:8080", "[::1]:8080"):
    connection = HTTPConnection("caddy")
    connection.request("GET", "/livez", headers={"Host": host})
    answer = connection.getresponse()
    print(answer.status, answer.headers["Location"])
"""


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/metrics?x", "/METRICS", "/%6detrics", "//metrics"])
def test_metrics_are_not_for_everybody(path: str, stack: Stack, trust: ssl.SSLContext) -> None:
    assert fetch(f"https://{stack.origin}{path}", trust)[0] == 404


async def test_a_slow_handshake_is_cut_off(stack: Stack, trust: ssl.SSLContext) -> None:
    """One that says nothing, one in the middle of TLS, and one in the middle of a request, whichever the port."""

    async def begin(port: int, said: bytes, tls: ssl.SSLContext | None = None) -> None:
        reader, writer = await asyncio.open_connection("localhost", port, ssl=tls)
        writer.write(said)
        await reader.read()
        writer.transport.abort()

    async with asyncio.timeout(SECONDS):
        await asyncio.gather(
            begin(stack.https_port, b""),
            begin(stack.https_port, HALF_HELLO),
            begin(stack.https_port, HALF_REQUEST, trust),
            begin(stack.http_port, b""),
            begin(stack.http_port, HALF_REQUEST),
        )


async def test_a_file_that_is_sent_is_kept(stack: Stack, authority: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    async with flows(f"wss://{stack.origin}") as connection:
        await connection.file(READING)
    sizes = stack.within("service", "stat -c %s /var/lib/speechbridge/*")
    assert str(READING.stat().st_size) in sizes.split()


def test_a_token_in_a_file_means_rev_ais_cloud(stack: Stack, tmp_path: Path) -> None:
    """Nobody else may read the file's folder."""
    file = tmp_path / "token"
    file.write_text(SECRET + "\n")
    tmp_path.chmod(0o700)
    script = "from speechbridge.settings import Settings; print(Settings.read().upstream_url)"
    command = ["run", "--rm", "-T", "--no-deps", "service", "python", "-c", script]
    ran = stack.compose(*command, SPEECHBRIDGE_REVAI_ACCESS_TOKEN_FILE=str(file))
    assert ran.stdout.strip() == "wss://api.rev.ai", ran.stderr
    assert stack.compose(*command).stdout.strip() == "ws://recognizer:8001"


async def test_at_stop_each_of_twenty_live_streams_gets_its_finals(stack: Stack, trust: ssl.SSLContext) -> None:
    """The last of the tests: nothing runs after it."""
    spoken = chunks()[:SPOKEN]
    url = f"wss://{stack.origin}{STREAM}&access_token={SECRET}"
    async with AsyncExitStack() as leaving:
        streams = [
            await leaving.enter_async_context(connect(url, ssl=trust, compression=None, close_timeout=1))
            for _ in range(STREAMS)
        ]
        for stream in streams:
            for chunk in spoken:
                await stream.send(chunk)
        for stream in streams:
            while '"partial"' not in str(await stream.recv()):
                pass
        stopping = asyncio.create_task(asyncio.to_thread(stack.compose, "stop"))
        endings = await asyncio.gather(*(ending(stream) for stream in streams))
        assert (await stopping).returncode == 0
    assert {close.code for _, close in endings} == {4010}
    lasts = [json.loads(messages[-1]) for messages, _ in endings]
    assert {last["type"] for last in lasts} == {"final"}
    assert all("Dashwood" in [element["value"] for element in last["elements"]] for last in lasts)
    for service in SERVICES:
        assert stack.inspect(service)["State"]["ExitCode"] == 0, service
    logged = stack.compose("logs").stdout
    assert "closed with 4010" in logged
    assert "Traceback" not in logged
    assert SECRET not in logged
