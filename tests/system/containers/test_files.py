"""What stands in files beside the code is complete, and what proxies read is understood by them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from speechbridge.settings import describe

ROOT = Path(__file__).parents[3]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()
SAMPLES = ROOT / "deploy" / "samples"

# In containers only docker-compose.yml, or the Dockerfile, says what these are; the last is for our own clients.
FIXED = {"HOST", "PORT", "FILES_DIR", "KEY"}


def test_every_setting_is_in_the_example_with_its_default() -> None:
    blocks = [f"# {what}\n# {name}={default}\n" for name, default, what in describe()]
    missing = [block for block in blocks if block not in EXAMPLE]
    assert not missing, "in .env.example there should be\n" + "".join(missing)


def test_nothing_else_is_in_the_example() -> None:
    """But for what docker-compose.yml alone reads, with the default that it has there."""
    read = dict(re.findall(r"\$\{(\w+):-(.*?)\}", COMPOSE))
    settings = {name for name, _, _ in describe()}
    for name, default in re.findall(r"^# ([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE):
        assert name in settings or read.get(name) == default, name
    for name in read:
        assert f"# {name}=" in EXAMPLE


def test_a_shell_can_read_an_env_file_made_of_the_example(tmp_path: Path) -> None:
    """As its first lines say, with every setting in it, and with a value that holds blanks."""
    env = tmp_path / ".env"
    env.write_text(re.sub(r"^# ([A-Z_]+=)", r"\1", EXAMPLE, flags=re.MULTILINE))
    script = 'set -a; . "$0"; set +a; echo "$SPEECHBRIDGE_KEYWORDS"'
    ran = subprocess.run(["sh", "-c", script, env], capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("\n", "")  # the last line of that name has the default: none
    quoted = re.findall(r"^# (SPEECHBRIDGE_KEYWORDS='.+')$", EXAMPLE, re.MULTILINE)
    env.write_text("\n".join(quoted))
    ran = subprocess.run(["sh", "-c", script, env], capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("refund,good morning\n", "")


def test_every_setting_reaches_the_containers() -> None:
    missing = [
        f"      {name}:\n"
        for name, _, _ in describe()
        if name.removeprefix("SPEECHBRIDGE_") not in FIXED
        and not re.search(rf"^ +{name}:|\$\{{{name}:-", COMPOSE, re.MULTILINE)
    ]
    assert not missing, "in docker-compose.yml the service's environment should have\n" + "".join(missing)


def tried(*command: str | Path, **variables: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30, env=variables, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("file", [ROOT / "deploy" / "Caddyfile", SAMPLES / "Caddyfile"])
def test_caddy_takes_its_files(file: Path, tmp_path: Path) -> None:
    caddy = shutil.which("caddy") or pytest.skip("caddy is not installed")
    home = {"XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    tried(caddy, "validate", "--config", file, "--adapter", "caddyfile", **home, SITE="localhost")


def test_nginx_takes_its_file(tmp_path: Path) -> None:
    """On ports, and in folders, that need no privilege."""
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or pytest.skip("nginx is not installed")
    openssl = shutil.which("openssl") or pytest.skip("openssl is not installed, and nginx wants a certificate")
    certificate = ["-keyout", f"{tmp_path}/privkey.pem", "-out", f"{tmp_path}/fullchain.pem"]
    tried(openssl, "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=localhost", *certificate)
    sample = (SAMPLES / "nginx.conf").read_text()
    for folder in ("/etc/letsencrypt/live/speech.example.org", "/var/log/nginx"):
        assert folder in sample
        sample = sample.replace(folder, str(tmp_path))
    (tmp_path / "sample.conf").write_text(re.sub(r"(listen (?:\[::\]:)?)(80|443)\b", r"\g<1>50\2", sample))
    whole = tmp_path / "nginx.conf"
    whole.write_text(f"pid {tmp_path}/pid; events {{}} http {{ access_log off; include sample.conf; }}")
    tried(nginx, "-t", "-q", "-c", whole, "-p", tmp_path, "-g", "error_log stderr;")
