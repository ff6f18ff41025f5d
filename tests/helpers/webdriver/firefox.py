"""Firefox, driven with WebDriver BiDi: https://w3c.github.io/webdriver-bidi/."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.helpers.webdriver.driver import kill_children
from tests.helpers.webdriver.sound import null_output

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from websockets.asyncio.client import ClientConnection

    from tests.helpers.webdriver.driver import Actions

PREFERENCES: dict[str, Any] = {
    "media.navigator.streams.fake": True,  # a microphone that hums
    "media.navigator.permission.disabled": True,  # grants the microphone
    "ui.prefersReducedMotion": 1,
    "media.autoplay.default": 0,  # an overlay may start by itself
    "devtools.jsonview.enabled": False,  # the viewer for JSON is a page without storage
    "full-screen-api.warning.timeout": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "app.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "http://127.0.0.1:9",  # nothing listens there: Firefox fetches nothing
}
LISTENING = re.compile(rb"WebDriver BiDi listening on (ws://\S+)")


class Firefox:
    """Tabs are named by their `context`."""

    def __init__(self, process: int, socket: ClientConnection) -> None:
        self._process = process
        self._socket = socket
        self._number = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._preloaded: dict[str, str] = {}  # for each tab, the id under which `before` is registered

    async def read(self) -> None:
        """Read answers, until the browser has closed."""
        async for text in self._texts():
            message = json.loads(text)
            answer = self._answers.pop(message.get("id"), None)
            if answer is None or answer.done():
                continue
            if message["type"] == "error":
                answer.set_exception(AssertionError(f"{message['error']}: {message['message']}"))
            else:
                answer.set_result(message["result"])

    async def _texts(self) -> AsyncIterator[str | bytes]:
        with suppress(ConnectionClosed):
            while True:
                yield await self._socket.recv()

    async def command(self, method: str, **parameters: object) -> dict[str, Any]:
        self._number += 1
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        result = await answer
        assert isinstance(result, dict)
        return result

    async def open_tab(self) -> str:
        return str((await self.command("browsingContext.create", type="tab"))["context"])

    async def close_tab(self, tab: str) -> None:
        await self.command("browsingContext.close", context=tab)

    async def navigate(self, tab: str, url: str, before: str) -> None:
        if tab in self._preloaded:
            await self.command("script.removePreloadScript", script=self._preloaded.pop(tab))
        if before:
            added = await self.command(
                "script.addPreloadScript", functionDeclaration=f"() => {{ {before} }}", contexts=[tab]
            )
            self._preloaded[tab] = added["script"]
        await self.command("browsingContext.navigate", context=tab, url=url, wait="complete")

    async def run(self, tab: str, script: str) -> Any:
        return (await self._call(tab, script, user=False))["value"]

    async def _call(self, tab: str, script: str, *, user: bool) -> dict[str, Any]:
        called = await self.command(
            "script.callFunction",
            functionDeclaration=f"async () => {{ {script} }}",
            target={"context": tab},
            awaitPromise=True,
            userActivation=user,
        )
        assert called["type"] == "success", called["exceptionDetails"]["text"]
        result = called["result"]
        assert isinstance(result, dict)
        return result

    async def act(self, tab: str, actions: Actions) -> None:
        await self.command("input.performActions", context=tab, actions=actions)

    async def set_files(self, tab: str, script: str, files: Sequence[Path]) -> None:
        element = await self._call(tab, f"return ({script});", user=True)
        shared = {"sharedId": element["sharedId"]}
        await self.command("input.setFiles", context=tab, element=shared, files=[str(file) for file in files])

    async def resize(self, tab: str, width: int, height: int) -> None:
        viewport = {"width": width, "height": height}
        await self.command("browsingContext.setViewport", context=tab, viewport=viewport)

    async def activate(self, tab: str) -> None:
        await self.command("browsingContext.activate", context=tab)

    async def kill_tabs(self) -> None:
        kill_children(self._process, " tab")

    async def screenshot(self, tab: str) -> bytes:
        return base64.b64decode((await self.command("browsingContext.captureScreenshot", context=tab))["data"])


@asynccontextmanager
async def firefox(executable: str, folder: Path, *, sound: bool = True) -> AsyncIterator[Firefox]:
    """Run a Firefox with a profile in `folder`. Without `sound` the machine has no audio output."""
    lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items())
    (folder / "user.js").write_text("".join(lines))
    async with null_output(folder) as server:
        command = [executable, "--headless", "--no-remote", "--profile", str(folder), "--remote-debugging-port=0"]
        environment = os.environ | {"HOME": str(folder), "PULSE_SERVER": server if sound else "unix:/nowhere"}
        process = await asyncio.create_subprocess_exec(
            *command,
            "about:blank",
            env=environment,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr
        try:
            async with asyncio.timeout(60):
                while not (found := LISTENING.search(line := await process.stderr.readline())):
                    assert line, "Firefox has ended"
            async with connect(f"{found[1].decode()}/session", max_size=None, compression=None) as socket:
                browser = Firefox(process.pid, socket)
                drained = asyncio.create_task(process.stderr.read())  # otherwise Firefox would wait for the full pipe
                reading = asyncio.create_task(browser.read())
                always = {"unhandledPromptBehavior": {"default": "ignore", "beforeUnload": "accept"}}
                await browser.command("session.new", capabilities={"alwaysMatch": always})
                try:
                    yield browser
                finally:
                    process.kill()  # its profile is deleted anyway
                    await asyncio.gather(reading, drained)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
