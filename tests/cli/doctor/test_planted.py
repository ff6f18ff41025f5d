"""The doctor finds what is wrong, one mistake at a time, and several at once. Each test plants one."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import time
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.client import connect

from speechbridge.cli.doctor import SUBJECTS
from speechbridge.protocol.close import CloseCode
from speechbridge.recognizer.server import serving
from speechbridge.server.admission import make_key
from speechbridge.testing.script import End, Scripted
from tests.helpers.command import PATIENCE, STUB, environment
from tests.helpers.doctor import doctor
from tests.helpers.proxy import EXPIRED, SELF_SIGNED, by_http_1_0, dropping, proxy, replacing
from tests.helpers.secrets import KNOWN, secret
from tests.helpers.service import STREAM, service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.helpers.proxy import Edit

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port: int = unused.getsockname()[1]
    return port


@asynccontextmanager
async def web_server(answer: str, after: float = 0.0) -> AsyncIterator[str]:
    """Answer each request with the same bytes; with nothing at all if they are empty. Yields ws://host:port."""
    waiting: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        waiting.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            if not answer:
                await reader.read()  # until the client has enough
            writer.write(answer.encode())
            await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()
            waiting.discard(task)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await server.wait_closed()


def dated(seconds: float) -> str:
    """Return an HTTP answer by a clock that is so many seconds ahead."""
    return (
        f"HTTP/1.1 404 Not Found\r\nDate: {formatdate(time.time() + seconds, usegmt=True)}\r\nContent-Length: 0\r\n\r\n"
    )


# ---- nothing is wrong ------------------------------------------------------------------------------------------------


async def test_where_nothing_is_wrong_it_says_so_of_each_subject(tmp_path: Path) -> None:
    (tmp_path / "sounddevice.py").write_text(
        "def query_devices():\n"
        "    return [dict(index=0, name='A microphone', max_input_channels=1, default_samplerate=48000.0)]\n"
    )
    async with serving(Scripted(), handshake_timeout=None) as speech, service() as server:
        found = await doctor(
            "--url",
            server.url,
            "--hold",
            "0.5",
            SPEECHBRIDGE_REVAI_URL=speech.url,
            SPEECHBRIDGE_RELAY_URL=f"{server.url}/ws_a",
            SPEECHBRIDGE_PORT=server.url.rpartition(":")[2],
            PYTHONPATH=str(tmp_path),
        )
    assert (found.status, found.wrong) == (0, [])
    assert {finding["subject"] for finding in found.findings} == set(SUBJECTS)
    assert any("A microphone" in text for text in found.told("ok", "microphone"))
    assert any("a speechbridge listens" in text for text in found.told("ok", "port"))


async def test_the_embedded_recognizer_is_started_and_dialled() -> None:
    found = await doctor(only=["upstream"])
    assert (found.status, found.wrong) == (0, [])
    assert found.told("ok")[0].startswith("the embedded recognizer answers after ")


# ---- this machine ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 # nobody listens there
async def test_a_port_that_is_taken(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        found = await doctor(
            only=["port"], SPEECHBRIDGE_HOST=host, SPEECHBRIDGE_PORT=port, SPEECHBRIDGE_API_KEYS=f"a:{'0' * 64}"
        )
    assert found.only_mistake.startswith(f"port: {host}:{port}: the port is taken: --port, or SPEECHBRIDGE_PORT, names")


async def test_a_port_that_another_web_server_has() -> None:
    async with web_server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi") as url:
        found = await doctor(only=["port"], SPEECHBRIDGE_PORT=url.rpartition(":")[2])
    assert "the port is taken, not by a speechbridge: " in found.only_mistake


async def test_portaudio_that_crashes_or_hangs_is_told_too(tmp_path: Path) -> None:
    (tmp_path / "sounddevice.py").write_text("import os; os.abort()")
    crashed = await doctor(only=["microphone"], PYTHONPATH=str(tmp_path))
    assert "PortAudio ended with status -6" in crashed.only_mistake
    (tmp_path / "sounddevice.py").write_text("import time; time.sleep(600)")
    hung = await doctor(only=["microphone", "python"], PYTHONPATH=str(tmp_path))
    assert hung.only_mistake.startswith("microphone: no answer within 20 s")
    assert hung.told("ok", "python")


async def test_a_service_that_is_not_ready_says_why() -> None:
    async with service(max_sessions=1) as server, connect(server.url + STREAM) as socket:
        await socket.recv()
        found = await doctor(only=["port"], SPEECHBRIDGE_PORT=server.url.rpartition(":")[2])
    assert found.only_mistake == "port: it is not ready: slots: all 1 are in use: see its log"


@pytest.mark.parametrize(("limit", "subject"), [("-n 256", "descriptors"), ("-v 2000000", "threads")])
async def test_a_low_ulimit(limit: str, subject: str) -> None:
    found = await doctor(only=["descriptors", "threads"], limit=limit)
    assert found.only_mistake.startswith(f"{subject}: ")
    assert f"ulimit {limit.split(maxsplit=1)[0]} " in found.only_mistake
    cure = found.only_mistake.partition("ulimit ")[2].split(" ", 2)[:2]
    if limit.startswith("-n"):
        assert "as root, as the hard limit is 256: ulimit -n 664" in found.only_mistake
        assert "400 connections and 200 streams take 664 file descriptors, and the limit is 256" in found.only_mistake
        assert not (await doctor(only=["descriptors"], limit=" ".join(cure))).wrong, "the cure cures"


async def test_fewer_sessions_need_fewer_descriptors() -> None:
    found = await doctor(only=["descriptors"], limit="-n 256", SPEECHBRIDGE_MAX_SESSIONS="50")
    assert found.wrong == []


# ---- keys and origins ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["missing", "directory", "empty", "comments", "a key itself", "binary"])
async def test_a_wrong_key_file(kind: str, tmp_path: Path) -> None:
    key, line = make_key("alice")
    KNOWN.add(key)
    path = tmp_path / "keys"
    said = {
        "missing": "cannot be read (No such file or directory)",
        "directory": "cannot be read (Is a directory)",
        "empty": "holds no key",
        "comments": "holds no key",
        "a key itself": "line 3 is not of the form NAME:SHA256",
        "binary": "is not a text file",
    }[kind]
    if kind == "directory":
        path.mkdir()
    elif kind != "missing":
        content = {"comments": "# nobody yet\n\n", "a key itself": f"{line}\n\n{key}\n", "binary": "\udcff\udcfe"}
        path.write_bytes(content.get(kind, "").encode(errors="surrogateescape"))
    found = await doctor(only=["keys", "settings"], SPEECHBRIDGE_API_KEYS_FILE=str(path))
    assert f"SPEECHBRIDGE_API_KEYS_FILE: {path} " in found.only_mistake or f"{path}: line" in found.only_mistake
    assert said in found.only_mistake


async def test_a_wrong_line_among_the_keys_that_are_set() -> None:
    lines = f"{make_key('alice')[1]},{secret()}"
    found = await doctor(only=["keys", "settings"], SPEECHBRIDGE_API_KEYS=lines)
    assert found.only_mistake.startswith(
        "keys: SPEECHBRIDGE_API_KEYS: line 2 is not of the form NAME:SHA256: put the line"
    )


async def test_a_service_that_others_reach_without_keys() -> None:
    found = await doctor(only=["keys", "settings"], SPEECHBRIDGE_PUBLISHED_ON="192.0.2.1")
    assert found.only_mistake.startswith("settings: SPEECHBRIDGE_PUBLISHED_ON: others can reach 192.0.2.1 without an")


@pytest.mark.parametrize("origin", ["app.example.org", "https://app.example.org/", "https://a:99999", "null"])
async def test_what_is_no_origin_is_refused(origin: str) -> None:
    found = await doctor("--origin", origin, only=["origins"])
    assert (found.status, found.findings) == (2, [])
    assert f"--origin {origin}: write it as browsers do, https://example.org" in found.stderr


async def test_a_key_file_that_is_right(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("".join(f"{make_key(name)[1]}\n" for name in ("alice", "bob")))
    found = await doctor(only=["keys", "settings"], SPEECHBRIDGE_API_KEYS_FILE=str(tmp_path / "keys"))
    assert (found.status, found.wrong) == (0, [])
    assert found.told("ok", "keys") == ["2 API keys may connect: "]


async def test_a_foreign_origin_by_the_settings() -> None:
    origin = "https://app.example.org"
    found = await doctor("--origin", origin, only=["origins"], SPEECHBRIDGE_ORIGINS="https://ok.example.org")
    assert found.only_mistake == (
        f"origins: pages of {origin} may not connect (close code 4036): set"
        f" SPEECHBRIDGE_ORIGINS=https://ok.example.org,{origin}"
    )
    cured = await doctor("--origin", origin, only=["origins"], SPEECHBRIDGE_ORIGINS=f"https://ok.example.org,{origin}")
    assert cured.status == 0


async def test_a_foreign_origin_at_a_running_service() -> None:
    origin = "https://app.example.org"
    async with service() as server:
        found = await doctor("--url", server.url, "--origin", origin, "--hold", "0", only=["proxy"])
    cure = f"set SPEECHBRIDGE_ORIGINS={origin}"
    assert found.only_mistake == f"proxy: a page of {origin} may not connect (close code 4036): {cure}"
    async with service(origins=origin) as server:
        cured = await doctor("--url", server.url, "--origin", origin, "--hold", "0", only=["proxy"])
    assert cured.status == 0


# ---- the upstream ----------------------------------------------------------------------------------------------------


async def test_an_upstream_where_nothing_listens() -> None:
    url = f"ws://127.0.0.1:{free_port()}"
    found = await doctor(only=["upstream"], SPEECHBRIDGE_REVAI_URL=url)
    said = f"upstream: {url}: the speech service cannot be reached: start it, or check SPEECHBRIDGE_REVAI_URL"
    assert found.only_mistake == said


async def test_a_fallback_is_dialled_beside_the_first_engine() -> None:
    url = f"ws://127.0.0.1:{free_port()}"
    found = await doctor(only=["upstream"], SPEECHBRIDGE_REVAI_URL=url, SPEECHBRIDGE_FALLBACK="embedded")
    assert found.only_mistake.startswith(f"upstream: {url}: the speech service cannot be reached: ")
    assert found.told("ok")[0].startswith("the fallback, the embedded recognizer answers after ")


async def test_a_fallback_that_fails() -> None:
    url = f"ws://127.0.0.1:{free_port()}"
    found = await doctor(
        only=["upstream"],
        SPEECHBRIDGE_ENGINE="embedded",
        SPEECHBRIDGE_FALLBACK="revai",
        SPEECHBRIDGE_REVAI_URL=url,
    )
    said = f"upstream: the fallback, {url}: the speech service cannot be reached: start it, or check"
    assert found.only_mistake.startswith(said)
    assert found.told("ok")[0].startswith("the embedded recognizer answers after ")


@pytest.mark.parametrize(
    ("fallback", "mistake"),
    [
        ("embedded", "embedded is the engine itself: name another"),
        ("nowhere:engine", "'nowhere:engine' cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
    ],
)
async def test_a_fallback_that_cannot_be_one(fallback: str, mistake: str) -> None:
    found = await doctor(only=["upstream"], SPEECHBRIDGE_ENGINE="embedded", SPEECHBRIDGE_FALLBACK=fallback)
    assert found.only_mistake.startswith(f"upstream: SPEECHBRIDGE_FALLBACK: {mistake}")
    assert found.told("ok")[0].startswith("the embedded recognizer answers after ")


async def test_an_upstream_whose_host_is_not_known() -> None:
    found = await doctor(only=["upstream"], SPEECHBRIDGE_RECOGNIZER_URL="ws://no-such-host.invalid:8001")
    assert (
        "the speech service's host is not known: start it, or check SPEECHBRIDGE_RECOGNIZER_URL" in found.only_mistake
    )


async def test_an_upstream_that_says_nothing() -> None:
    async with web_server("") as url:
        found = await doctor(only=["upstream"], SPEECHBRIDGE_REVAI_URL=url, SPEECHBRIDGE_CONNECT_SECONDS="0.5")
    assert "the speech service did not answer within 0.5 s" in found.only_mistake


async def test_an_upstream_that_refuses_the_token() -> None:
    refusing = Scripted((End(CloseCode.UNAUTHORIZED, "unknown token"),))
    async with serving(refusing, handshake_timeout=None) as speech:
        found = await doctor(
            "--verbose",
            only=["upstream"],
            SPEECHBRIDGE_REVAI_URL=speech.url,
            SPEECHBRIDGE_REVAI_ACCESS_TOKEN=secret(),
        )
    assert (
        "refuses the access token (4001 (unknown token)): check SPEECHBRIDGE_REVAI_ACCESS_TOKEN" in found.only_mistake
    )


async def test_an_upstream_with_a_certificate_that_is_not_trusted() -> None:
    async with (
        serving(Scripted(), handshake_timeout=None) as speech,
        proxy(speech.url, certificate=SELF_SIGNED) as url,
    ):
        found = await doctor(only=["upstream", "tls"], SPEECHBRIDGE_REVAI_URL=url.replace("http", "ws"))
    assert len(found.wrong) == 2
    assert "the speech service: the certificate of https://127.0.0.1:" in found.told("WRONG", "tls")[0]
    assert "certificate is not valid: self-signed certificate" in found.told("WRONG", "upstream")[0]


# ---- the proxy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "mistake"),
    [
        (dropping("upgrade"), "the proxy drops Upgrade, so no WebSocket opens"),
        (dropping("connection"), "the proxy drops Connection, so no WebSocket opens"),
        (dropping("connection", "upgrade"), "the proxy drops Upgrade and Connection, so no WebSocket opens"),
        (by_http_1_0, "the proxy speaks HTTP/1.0 and drops Upgrade and Connection, so no WebSocket opens"),
        (replacing("Connection", "close"), "the proxy drops Connection, so no WebSocket opens"),
        (dropping("sec-websocket-key"), "HTTP 400: Failed to open a WebSocket connection: missing Sec-WebSocket-Key"),
        (
            replacing("Host", "backend:8000"),
            "may not connect (close code 4036), as the proxy rewrites Host to backend:8000",
        ),
        (
            replacing("Origin", "http://b.example"),
            "(close code 4036), as the proxy rewrites Origin to http://b.example",
        ),
        (dropping("origin"), "the proxy drops Origin, so every website can connect through its visitor's browser"),
    ],
)
async def test_a_proxy_that_drops_or_rewrites_headers(edit: Edit, mistake: str) -> None:
    async with service() as server, proxy(server.url, edit) as url:
        found = await doctor("--url", url, "--hold", "0.1", only=["proxy"])
    assert mistake in found.only_mistake


async def test_a_proxy_with_a_timeout_of_10_s() -> None:
    async with service() as server, proxy(server.url, idle=10.0) as url:
        found = await doctor("--url", url, "--hold", "15", only=["proxy"])
    assert found.only_mistake.startswith(
        "proxy: something in between closes a connection after 10 s without traffic; the service pings only every 20 s:"
        " raise the proxy's idle timeout to 60 s or more (nginx: proxy_read_timeout 90s;"
    )


async def test_a_proxy_whose_timeout_is_longer_than_the_heartbeat() -> None:
    async with service() as server, proxy(server.url, idle=21.0) as url:
        found = await doctor("--url", url, "--hold", "22", only=["proxy"])
    assert (found.status, found.wrong) == (0, [])
    assert "a connection without traffic stays open for 22 s: " in found.told("ok")


async def test_a_service_that_ends_idle_connections_itself() -> None:
    async with service(idle_seconds=0.3) as server:
        found = await doctor("--url", server.url, "--hold", "5", only=["proxy"])
    assert found.status == 0
    assert any(
        "the service itself closes" in text and "SPEECHBRIDGE_IDLE_SECONDS" in text for text in found.told("note")
    )


@pytest.mark.parametrize(
    ("answer", "mistake"),
    [
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n", "answers HTTP 502: the proxy does not reach the service: start it"),
        (
            "HTTP/1.1 308 Moved\r\nLocation: https://a.example/\r\n\r\n",
            "redirects to https://a.example: a WebSocket foll",
        ),
        ("HTTP/1.1 404 Not Found\r\n\r\n", "answers HTTP 404, and not as a speechbridge: configure the proxy to pass"),
        ("HTTP/1.1 401 Unauthorized\r\n\r\n", "answers HTTP 401: the proxy requires a login"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "does not answer in HTTP: check the scheme, the port"),
    ],
)
async def test_a_url_where_something_else_answers(answer: str, mistake: str) -> None:
    async with web_server(answer) as url:
        found = await doctor("--url", url, "--hold", "0", only=["proxy"])
    assert mistake in found.wrong[0]
    assert found.status == 1


async def test_a_key_that_is_missing_unknown_or_dropped_on_the_way() -> None:
    key, line = make_key("alice")
    KNOWN.add(key)
    async with service(api_keys=line) as server:
        right = await doctor("--url", server.url, "--hold", "0.1", "--verbose", only=["proxy"], SPEECHBRIDGE_KEY=key)
        without = await doctor("--url", server.url, "--hold", "0.1", only=["proxy"])
        unknown = await doctor("--url", server.url, "--hold", "0.1", only=["proxy"], SPEECHBRIDGE_KEY=secret())
        async with proxy(server.url, dropping("sec-websocket-protocol")) as url:
            dropped = await doctor("--url", url, "--hold", "0.1", only=["proxy"], SPEECHBRIDGE_KEY=key)
    assert right.status == 0
    assert (without.status, [text for text in without.told("note") if "SPEECHBRIDGE_KEY" in text] != []) == (0, True)
    assert "the key in SPEECHBRIDGE_KEY is not known to the service" in unknown.only_mistake
    assert "the proxy drops Sec-WebSocket-Protocol" in dropped.only_mistake


# ---- certificates and clocks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("certificate", "is_trusted", "host", "mistake"),
    [
        (
            SELF_SIGNED,
            False,
            "127.0.0.1",
            "is not trusted (self-signed certificate): configure the proxy to send the whole",
        ),
        (EXPIRED, True, "127.0.0.1", "has expired: renew it"),
        (SELF_SIGNED, True, "127.0.0.2", "is for another name: use the name in it"),
    ],
)
async def test_a_certificate_that_is_not_accepted(
    certificate: Path, host: str, mistake: str, *, is_trusted: bool
) -> None:
    trusted = {"SSL_CERT_FILE": str(certificate)} if is_trusted else {}
    async with service() as server, proxy(server.url, certificate=certificate, host=host) as url:
        found = await doctor("--url", url, "--hold", "0", only=["tls", "proxy"], **trusted)
    assert found.only_mistake.startswith("tls: the public URL: the certificate of https://127.0.0.")
    assert mistake in found.only_mistake


async def test_a_certificate_that_is_trusted_and_port_that_has_none() -> None:
    async with service() as server, proxy(server.url, certificate=SELF_SIGNED) as url:
        trusted = await doctor("--url", url, "--hold", "0", only=["tls", "proxy"], SSL_CERT_FILE=str(SELF_SIGNED))
        plain = await doctor("--url", server.url.replace("ws", "https"), "--hold", "0", only=["tls", "proxy"])
    assert trusted.status == 0
    assert "if the port is for plain HTTP, write http:" in plain.only_mistake


@pytest.mark.parametrize(
    ("ahead", "said"), [(3600, "60 minutes behind"), (-7300, "2 hours ahead of"), (86400 * 400, "400 days behind")]
)
async def test_a_clock_that_is_wrong(ahead: float, said: str) -> None:
    async with web_server(dated(ahead)) as url:
        by_upstream = await doctor(only=["clock"], SPEECHBRIDGE_REVAI_URL=url)
        by_url = await doctor("--url", url, only=["clock"])
    for found, what in ((by_upstream, "the speech service"), (by_url, "the public URL")):
        assert found.only_mistake.startswith(
            f"clock: this clock is {said} that of {what}, so certificates seem expired"
        )


async def test_a_clock_that_is_right() -> None:
    async with web_server(dated(-20)) as url:
        found = await doctor(only=["clock"], SPEECHBRIDGE_REVAI_URL=url)
    assert (found.status, found.told("ok")) == (0, ["it agrees with the speech service: "])


# ---- all together ----------------------------------------------------------------------------------------------------


async def test_a_timeout_is_found_behind_a_rewritten_host() -> None:
    async with service() as server, proxy(server.url, replacing("Host", "backend"), idle=1.0) as url:
        found = await doctor("--url", url, "--hold", "3", only=["proxy"])
    rewritten, timeout = found.wrong
    assert "the proxy rewrites Host to backend" in rewritten
    assert "closes a connection after 1 s without traffic" in timeout


@pytest.mark.parametrize("certificate", [SELF_SIGNED, None])
async def test_no_mistake_hides_another(certificate: Path | None, tmp_path: Path) -> None:
    """Also a setting that cannot be read, as what the others need is taken at its default then."""
    (tmp_path / "sounddevice.py").write_text("import os; os.abort()")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with service() as server, proxy(server.url, dropping("upgrade"), certificate=certificate) as url:
            found = await doctor(
                "--url",
                url,
                "--hold",
                "0",
                limit="-n 256",
                PYTHONPATH=str(tmp_path),
                SPEECHBRIDGE_PORT=str(taken.getsockname()[1]),
                SPEECHBRIDGE_IDLE_SECONDS="soon",
                SPEECHBRIDGE_DRAIN_SECONDS="-1",
                SPEECHBRIDGE_API_KEYS_FILE=str(tmp_path / "keys"),
                SPEECHBRIDGE_REVAI_URL=f"ws://127.0.0.1:{free_port()}",
            )
    wrong = {finding["subject"] for finding in found.findings if finding["mark"] == "WRONG"}
    expected = {"descriptors", "keys", "microphone", "port", "proxy", "settings", "upstream"}
    assert wrong == expected | ({"tls"} if certificate else set()), found.findings
    assert len(found.told("WRONG", "settings")) == 2
    assert len(found.told("WRONG", "proxy")) == 1
    assert not any("failed itself" in text for text in found.wrong)
    assert found.status == 1


async def test_ctrl_c_ends_it_at_once_with_what_was_found() -> None:
    async with service() as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "speechbridge", "doctor", "--url", server.url, "--skip", "upstream"),
            env=environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        while b"clock" not in await process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(PATIENCE):
            rest, said = await process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in said
    assert b"proxy: http://127.0.0.1:" in rest


async def test_a_server_that_never_answers_does_not_stop_it() -> None:
    async with web_server("") as url:
        found = await doctor("--url", url, leave_out=["microphone", "upstream"])
    assert "does not answer within 5 s" in found.only_mistake


async def test_lines_have_a_mark_a_subject_and_a_cure() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "speechbridge", "doctor", "--quiet", "--skip", "microphone"),
        env=environment(SPEECHBRIDGE_START=STUB, SPEECHBRIDGE_LOG_LEVEL="loud"),
        stdout=asyncio.subprocess.PIPE,
    )
    written, _ = await process.communicate()
    expected = "WRONG  settings: SPEECHBRIDGE_LOG_LEVEL: 'loud' is not one of debug, info, warning, error\n"
    assert (written.decode(), process.returncode) == (expected, 1)
