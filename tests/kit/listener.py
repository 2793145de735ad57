"""A listening socket of a test, whose connections end when it does."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]]


@asynccontextmanager
async def listening(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve each connection until the block ends; the port.

    A server of asyncio's own leaves the connections open whose `serve` is still waiting when the test's loop ends, and
    the warning about that comes in the midst of a later test.
    """
    taken: list[tuple[asyncio.Task[None], asyncio.StreamWriter]] = []
    over = False

    def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if over:
            writer.transport.abort()
        else:
            taken.append((asyncio.create_task(serve(reader, writer)), writer))

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        over = True
        server.close()
        for task, writer in taken:
            task.cancel()
            writer.transport.abort()
        await asyncio.gather(*(task for task, _ in taken), return_exceptions=True)
