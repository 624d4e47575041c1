"""A process of the test's own that says when it is ready."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream


@asynccontextmanager
async def ready(*command: str, own_session: bool = False) -> AsyncIterator[int]:
    """Pid of a process that has printed "ready"; killed in the end."""
    process = await anyio.open_process(command, stdin=None, stderr=None, start_new_session=own_session)
    assert process.stdout is not None
    try:
        with anyio.fail_after(60):
            await BufferedByteReceiveStream(process.stdout).receive_until(b"ready\n", 64)
        yield process.pid
    finally:
        process.kill()
        await process.aclose()
