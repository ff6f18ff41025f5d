"""WebKitGTK's MiniBrowser, driven with classic WebDriver: https://www.w3.org/TR/webdriver2/."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import httpx2

from tests.helpers.webdriver.driver import kill_children, move
from tests.helpers.webdriver.page import PATIENCE, PAUSE
from tests.helpers.webdriver.sound import null_output

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from tests.helpers.webdriver.driver import Actions

ARGUMENTS = ["--automation", "--enable-media-stream=true", "--enable-mock-capture-devices=true"]
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the standard's key of an element reference
CORNER = (3, 3)  # an empty place of the page
SCREEN = 1600, 1200

# Classic WebDriver cannot run a script before a document's own scripts. So a plain document of the service is opened
# first. This script runs `before` in it, gives it the page's address, and writes the page into it.
WRITTEN = """
globalThis.eval(BEFORE);
const page = await (await fetch(ADDRESS)).text();
history.replaceState(null, "", ADDRESS);
document.open();
document.write(page);
document.close();
await new Promise((done) => document.readyState === "complete" ? done() : addEventListener("load", done));
"""

# Wait for a few frames first: a click that arrives after the focus would close a panel that a key has opened.
FOCUSED = """
const frame = () => Promise.race([new Promise(requestAnimationFrame), new Promise((done) => setTimeout(done, 200))]);
for (let count = 0; count < 3; count += 1) await frame(); // a window that is not drawn yet has none
return document.hasFocus();
"""


class WebKit:
    """Tabs are named by their window handle."""

    def __init__(self, process: int, client: httpx2.AsyncClient, session: str) -> None:
        self._process = process
        self._client = client
        self._session = session
        self._current = self._first = ""
        self._busy = asyncio.Lock()  # commands go to the current tab, so tabs must take turns

    async def _command(self, method: str, path: str, body: object = None) -> Any:
        content = {} if body is None and method == "POST" else body
        answer = await self._client.request(method, f"/session/{self._session}{path}", json=content)
        value = answer.json()["value"]
        assert answer.is_success, f"{path}: {value['error']}: {value['message']}"
        return value

    async def _in(self, tab: str, method: str, path: str, body: object = None) -> Any:
        async with self._busy:
            if tab != self._current:
                await self._command("POST", "/window", {"handle": tab})
                self._current = tab
            return await self._command(method, path, body)

    async def first_tab(self) -> str:
        self._current = self._first = str(await self._command("GET", "/window"))
        return self._first

    async def end(self) -> None:
        await self._command("DELETE", "")

    async def open_tab(self) -> str:
        return str((await self._command("POST", "/window/new", {"type": "tab"}))["handle"])

    async def close_tab(self, tab: str) -> None:
        await self._in(tab, "DELETE", "/window")
        self._current = ""

    async def navigate(self, tab: str, url: str, before: str) -> None:
        address = urljoin(url, "/livez") if before else url
        await self._in(tab, "POST", "/url", {"url": address})
        if before:
            await self.run(tab, WRITTEN.replace("BEFORE", json.dumps(before)).replace("ADDRESS", json.dumps(url)))
        if (
            tab == self._first and "overlay" not in url
        ):  # other tabs are in the background; an overlay starts at a click
            await self._focus(tab)

    async def _focus(self, tab: str) -> None:
        """Click until the document has the focus: a new one does not have it in GTK's window, and would lose keys."""
        async with asyncio.timeout(PATIENCE):
            while True:
                await self.act(tab, move(*CORNER, click=True))
                if await self.run(tab, FOCUSED):
                    return
                await asyncio.sleep(PAUSE)

    async def run(self, tab: str, script: str) -> Any:
        wrapped = f"const done = arguments[0]; (async () => {{ {script} }})().then(done, (e) => done('!' + e));"
        value = await self._in(tab, "POST", "/execute/async", {"script": wrapped, "args": []})
        assert not (isinstance(value, str) and value.startswith("!")), value
        return value

    async def act(self, tab: str, actions: Actions) -> None:
        await self._in(tab, "POST", "/actions", {"actions": actions})

    async def set_files(self, tab: str, script: str, files: Sequence[Path]) -> None:
        element = await self._in(tab, "POST", "/execute/sync", {"script": f"return ({script})", "args": []})
        text = "\n".join(map(str, files))
        await self._in(tab, "POST", f"/element/{element[ELEMENT]}/value", {"text": text})

    async def resize(self, tab: str, width: int, height: int) -> None:
        extra = await self._in(
            tab,
            "POST",
            "/execute/sync",
            {"script": "return [outerWidth - innerWidth, outerHeight - innerHeight]", "args": []},
        )
        size = width + extra[0], height + extra[1]
        # Without a window manager, the window under the pointer has the focus. The pointer is mid-screen.
        x, y = ((whole - part) // 2 for whole, part in zip(SCREEN, size, strict=True))
        await self._in(tab, "POST", "/window/rect", {"x": x, "y": y, "width": size[0], "height": size[1]})

    async def activate(self, tab: str) -> None:
        await self._in(tab, "GET", "/window")  # a command to a tab brings it to the front

    async def kill_tabs(self) -> None:
        kill_children(self._process, "WebKitWebProcess")

    async def screenshot(self, tab: str) -> bytes:
        return base64.b64decode(await self._in(tab, "GET", "/screenshot"))


@asynccontextmanager
async def screen() -> AsyncIterator[str]:
    """Run an X server without a monitor; yield its name, for DISPLAY."""
    reading, writing = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *("Xvfb", "-displayfd", str(writing), "-screen", "0", "{}x{}x24".format(*SCREEN), "-nolisten", "tcp"),
            pass_fds=(writing,),
            stderr=asyncio.subprocess.DEVNULL,
        )
    finally:
        os.close(writing)
    try:
        with os.fdopen(reading) as pipe:
            async with asyncio.timeout(20):
                number = await asyncio.to_thread(pipe.readline)
        yield f":{number.strip()}"
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def webkit(browser: str, folder: Path) -> AsyncIterator[WebKit]:
    """Run a MiniBrowser, with its settings in `folder`."""
    (folder / "gtk-3.0").mkdir()
    (folder / "gtk-3.0" / "settings.ini").write_text("[Settings]\ngtk-enable-animations=0\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with screen() as display, null_output(folder) as sound:
        names = ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR")
        environment = os.environ | dict.fromkeys(names, str(folder)) | {"DISPLAY": display, "PULSE_SERVER": sound}
        environment |= {"WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS": "1", "LIBGL_ALWAYS_SOFTWARE": "1"}
        process = await asyncio.create_subprocess_exec(
            *("WebKitWebDriver", f"--port={port}"),
            env=environment,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
                running = await _session(process.pid, client, browser)
                yield running
                await running.end()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 15)  # ends the browser, too
            await process.wait()


async def _session(process: int, client: httpx2.AsyncClient, browser: str) -> WebKit:
    options = {"webkitgtk:browserOptions": {"binary": browser, "args": ARGUMENTS}}
    async with asyncio.timeout(20):
        while True:
            try:
                answer = await client.post("/session", json={"capabilities": {"alwaysMatch": options}})
                break
            except httpx2.ConnectError:  # it does not listen yet
                await asyncio.sleep(0.05)
    value = answer.json()["value"]
    assert answer.is_success, value
    return WebKit(process, client, value["sessionId"])
