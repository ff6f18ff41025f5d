"""The captions page as a browser gets it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient

from speechbridge.server import create_app
from speechbridge.server.endpoints.page import FILES, TYPES
from speechbridge.settings import Settings
from tests.helpers.service import quiet

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def browser() -> Iterator[TestClient]:
    with TestClient(create_app(stream_client_start=quiet)) as client:
        yield client


def test_the_page_and_everything_it_names_is_served(browser: TestClient) -> None:
    page = browser.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    reading = browser.get("/?read=TOKEN")
    assert reading.text == page.text.replace("static/page.mjs", "static/reading.mjs") != page.text
    named = set(re.findall(r'(?:src|href)="(static/[^"]+)"', page.text + reading.text))
    assert {"static/page.mjs", "static/style.css", "static/view.js", "static/icon.svg"} <= named
    manifest = browser.get("/static/manifest.webmanifest").json()
    named |= {f"static/{icon['src']}" for icon in manifest["icons"]}
    for script in FILES.glob("*.mjs"):
        named |= {f"static/{name}" for name in re.findall(r'"\./([^"]+\.mjs)"', script.read_text())}
    assert len(named) > 30
    for path in named:
        assert browser.get(f"/{path}").status_code == 200
    assert {path.removeprefix("static/") for path in named} | {"worklet.mjs", "offline.js"} == {
        path.name for path in FILES.iterdir() if path.name != "index.html"
    }


def test_all_files_of_the_page_are_kept_for_when_the_network_is_away() -> None:
    kept = set(re.findall(r'^  "([^"]+)",$', (FILES / "offline.js").read_text(), re.MULTILINE))
    made = {"options.json"}  # from the settings
    assert kept == {path.name for path in FILES.iterdir()} - {"index.html", "offline.js"} | made


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/static/page.mjs",
        "/static/style.css",
        "/static/icon.svg",
        "/static/icon-192.png",
        "/static/manifest.webmanifest",
    ],
)
def test_every_file_has_its_type_and_is_fenced_in(browser: TestClient, path: str) -> None:
    headers = browser.get(path).headers
    assert headers["content-type"] == TYPES[path[path.rindex(".") :] if "." in path else ".html"]
    assert headers["x-content-type-options"] == "nosniff"
    policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["manifest-src"] == "'self'"
    assert "microphone=(self)" in headers["permissions-policy"]


def test_nothing_in_the_page_breaks_its_own_policy(browser: TestClient) -> None:
    page = browser.get("/").text
    assert not re.search(r"<style|style=|\son\w+=|<script>|javascript:", page)
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page)


def test_a_browser_asks_each_time_and_is_sent_only_what_changed(browser: TestClient) -> None:
    first = browser.get("/static/page.mjs")
    assert first.headers["cache-control"] == "no-cache"
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}'):
        again = browser.get("/static/page.mjs", headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert "content-security-policy" in again.headers
    assert browser.get("/static/page.mjs", headers={"if-none-match": '"other"'}).status_code == 200


def test_head_is_answered_as_get_without_the_body(browser: TestClient) -> None:
    head, get = browser.head("/"), browser.get("/")
    assert head.content == b""
    assert head.headers["content-length"] == get.headers["content-length"]


@pytest.mark.parametrize(
    "path", ["..%2fmain.py", "%2e%2e/main.py", "page.mjs%00", "nothing.js", ".", "%5c..%5cmain.py"]
)
def test_nothing_else_is_served(browser: TestClient, path: str) -> None:
    assert browser.get(f"/static/{path}").status_code == 404


def test_the_languages_of_the_settings_are_told_to_the_page() -> None:
    settings = Settings.read(languages="en, es")
    with TestClient(create_app(settings, stream_client_start=quiet)) as client:
        answer = client.get("/static/options.json")
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {"languages": ["en", "es"]}
