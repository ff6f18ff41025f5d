"""What is measured: the service, and its floors (the SDK alone, FastAPI alone), each a process; and how to load one."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from speechbridge.protocol.request import PATH
from speechbridge.testing.load import Load, Reading
from tests.helpers.command import serving, url_in
from tests.helpers.service import STREAM

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

METADATA = "metadata={answer}"  # tells the upstream, once the load has filled it in, after how many bytes to answer

NGINX = """
worker_processes 1;
master_process off;
daemon off;
pid {folder}/pid;
error_log {folder}/error;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://{upstream};
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade;
    }}
  }}
}}
"""


@dataclass(frozen=True)
class Subject:
    """Something that answers chunks: its URLs and processes. The SDK alone has none, for it is its own load."""

    name: str
    urls: list[str]
    pids: list[int]
    core: int | None = None

    def measure(
        self, *, sessions: int, chunk_ms: int = 100, answer_ms: int | None = None, seconds: float = 5.0
    ) -> Reading:
        load = Load(self.urls, self.pids, sessions, chunk_ms, seconds, answer_ms or chunk_ms, self.core)
        module = "speechbridge.testing.load" if self.pids else "tests.bench.sdk"
        command = [sys.executable, "-m", module, json.dumps(asdict(load))]
        return Reading(**json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))


@contextmanager
def listening(module: str) -> Iterator[tuple[str, int]]:
    """Run a module that prints the URL on which it listens; yields the URL and the process' id."""
    with subprocess.Popen([sys.executable, "-m", module], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().removeprefix("listening on ").strip(), process.pid
        finally:
            process.kill()


@contextmanager
def upstream() -> Iterator[str]:
    with listening("speechbridge.testing.answering") as (url, _):
        yield url


def keep_to(pid: int, core: int | None) -> None:
    """Keep a process that has just started to one core, as `taskset -c CORE` does."""
    if core is not None:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {core})


@contextmanager
def service(
    upstream: str,
    *,
    cores: Sequence[int | None] = (None,),
    path: str = STREAM,
    name: str = "service",
    redis_url: str = "",
) -> Iterator[Subject]:
    """Run the service as in production, for up to 5,000 sessions: on each of `cores` a process with its own port."""
    variables = {
        "SPEECHBRIDGE_REVAI_URL": upstream,
        "SPEECHBRIDGE_RELAY_URL": f"{upstream}{PATH}?metadata=3200",
        "SPEECHBRIDGE_MAX_SESSIONS": "5000",
        "SPEECHBRIDGE_LOG_LEVEL": "error",
        "SPEECHBRIDGE_REDIS_URL": redis_url,
    }
    with ExitStack() as stack:
        urls, pids = [], []
        for core in cores:
            process, announced = stack.enter_context(serving(**variables))
            keep_to(process.pid, core)
            base = url_in(announced)
            urls.append(f"{base}/{path.removeprefix('/')}{'&' if '?' in path else '?'}{METADATA}")
            pids.append(process.pid)
        yield Subject(name, urls, pids)


@contextmanager
def echo(*, core: int | None = None, name: str = "FastAPI alone") -> Iterator[Subject]:
    with listening("tests.bench.echo") as (url, pid):
        keep_to(pid, core)
        yield Subject(name, [f"{url}/"], [pid])


def alone(upstream: str, *, core: int | None = None, name: str = "SDK alone") -> Subject:
    return Subject(name, [upstream], [], core)


@contextmanager
def nginx(upstream: str) -> Iterator[Subject]:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        configuration = Path(folder, "nginx.conf")
        configuration.write_text(NGINX.format(folder=folder, port=port, upstream=upstream.removeprefix("ws://")))
        with subprocess.Popen(["nginx", "-c", configuration, "-p", folder]) as process:
            try:
                yield Subject("nginx", [f"ws://127.0.0.1:{port}{PATH}?{METADATA}"], [process.pid])
            finally:
                process.kill()


def has_nginx() -> bool:
    return shutil.which("nginx") is not None


def cores() -> list[int]:
    """Return the cores that this process may use, the last first: interrupts usually go to the first ones."""
    return sorted(os.sched_getaffinity(0), reverse=True)
