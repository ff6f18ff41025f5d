"""A sound server with a null output: Firefox processes no audio on a machine without an output device."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

COMMAND = (
    "pulseaudio -n --daemonize=no --use-pid-file=no --disable-shm=yes --exit-idle-time=-1 --log-target=stderr "
    "--load=module-null-sink"
)


@asynccontextmanager
async def null_output(folder: Path) -> AsyncIterator[str]:
    """Run the sound server; yield its address, for PULSE_SERVER."""
    socket = folder / "sound"  # not "pulse": pulseaudio makes a folder of this name
    process = await asyncio.create_subprocess_exec(
        *COMMAND.split(),
        f"--load=module-native-protocol-unix socket={socket} auth-anonymous=1",
        env=os.environ | {"HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(20):
            while not socket.exists():  # pulseaudio makes it
                assert process.returncode is None, "pulseaudio has ended"
                await asyncio.sleep(0.02)
        yield f"unix:{socket}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
