"""docker-compose.yml, built and running, if a container engine is available."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SERVICES = ["caddy", "recognizer", "service"]
REPLICAS = ["service", "service-2", "service-3"]  # with the profile `cluster`
CLUSTER = [*SERVICES, *REPLICAS[1:], "recognizer-2", "redis"]  # likewise
PROJECT = "speechbridge-test"
COMPOSE = ["docker", "compose"]
IMAGES = {
    "PYTHON_IMAGE": "python:3.11-slim-bookworm",
    "CADDY_IMAGE": "caddy:2.10-alpine",
    "REDIS_IMAGE": "redis:7.4-alpine",
}
BUILD_SECONDS = 600.0  # with nothing in the cache
SECONDS = 120.0  # for anything else; a busy machine needs 30
HEALTHY_SECONDS = 120  # a healthcheck comes every 10 s
# The beginning of a TLS record of 512 bytes with a ClientHello; the rest is never sent.
HALF_HELLO = bytes.fromhex("1603010200010001fc0303") + bytes(32)
AUTHORITY = "/var/lib/caddy/caddy/pki/authorities/local/root.crt"


def docker(*arguments: str, check: bool = True) -> str:
    command = ["docker", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=check)
    return ran.stdout if ran.returncode == 0 else ""


@cache
def what_is_missing() -> str:
    """Return why containers cannot run here; empty if they can."""
    if not shutil.which("docker"):
        return "docker is not installed"
    if not docker("info", "--format", "{{.ServerVersion}}", check=False).strip():
        return "no Docker engine answers"
    if not docker("compose", "version", check=False):
        return "`docker compose` is not installed: docker-compose 1 does not support the file"
    for variable, default in IMAGES.items():
        image = os.environ.get(variable, default)
        if not docker("image", "inspect", image, check=False) and not docker("pull", "--quiet", image, check=False):
            return f"the base image {image} is not available; set {variable} to another"
    return ""


@dataclass(frozen=True)
class Stack:
    https_port: int
    http_port: int
    settings: dict[str, str]
    services: list[str]
    options: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        return f"localhost:{self.https_port}"

    def compose(self, *arguments: str, seconds: float = SECONDS, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a compose command; the result shows whether it failed."""
        kept = {name: value for name, value in os.environ.items() if "SPEECHBRIDGE" not in name and "REVAI" not in name}
        return subprocess.run(
            [*COMPOSE, "--project-name", PROJECT, "--env-file", "deploy/empty", *self.options, *arguments],
            cwd=ROOT,
            env=kept | self.settings | variables,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def within(self, service: str, script: str) -> str:
        """Run a shell script in a container; return its output, errors included."""
        ran = self.compose("exec", "-T", service, "sh", "-c", f"{{ {script}\n}} 2>&1")
        return ran.stdout

    def inspect(self, service: str) -> dict[str, Any]:
        """Return the engine's description of a container, running or stopped."""
        labels = {"project": PROJECT, "service": service}
        filters = [f"--filter=label=com.docker.compose.{name}={value}" for name, value in labels.items()]
        (found,) = json.loads(docker("inspect", docker("ps", "--all", "--quiet", *filters).strip()))
        assert isinstance(found, dict)
        return found

    def await_health(self, since: int) -> None:
        """Wait until every container's healthcheck has passed."""
        command = ["docker", "events", "--since", str(since), "--until", str(since + HEALTHY_SECONDS)]
        command += ["--filter", f"label=com.docker.compose.project={PROJECT}", "--filter", "event=health_status"]
        command += ["--format", '{{index .Actor.Attributes "com.docker.compose.service"}} {{.Action}}']
        healthy: set[str] = set()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            for line in process.stdout:
                service, _, action = line.strip().partition(" ")
                if action == "health_status: healthy":
                    healthy.add(service)
                if healthy == set(self.services):
                    break
            process.kill()
        assert healthy == set(self.services), self.compose("logs").stdout


@contextmanager
def running(services: list[str] = SERVICES, /, **settings: str) -> Iterator[Stack]:
    """Build these services and run them on free loopback ports; afterwards remove everything but the images."""
    with socket.create_server(("127.0.0.1", 0)) as https, socket.create_server(("127.0.0.1", 0)) as http:
        https_port, http_port = https.getsockname()[1], http.getsockname()[1]
    ports = {"HTTPS_PORT": str(https_port), "HTTP_PORT": str(http_port)}
    options = ("--profile", "cluster") if services == CLUSTER else ()
    stack = Stack(https_port, http_port, settings | ports, services, options)
    try:
        built = stack.compose("build", seconds=BUILD_SECONDS)
        assert built.returncode == 0, built.stdout + built.stderr
        begun = int(time.time())
        started = stack.compose("up", "--detach")
        assert started.returncode == 0, started.stderr
        stack.await_health(begun)
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "1")
