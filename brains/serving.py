"""`roost serve-model`: a model for other programs, with the API that OpenAI defined."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from typing import Any

from aiohttp import web

from roost.brains.face import LAST_WORDS, Face, Service
from roost.errors import BrainError, ConfigError


def run(service: Service) -> None:
    """Serve until SIGTERM or Ctrl-C, and then until the last answer is done or `grace` is over; a second one ends at
    once. Raises BrainError or ConfigError before anything is served."""
    asyncio.run(serve(service))


async def serve(service: Service) -> None:
    face, stop = Face(service), asyncio.Event()
    listen(stop)
    runner = web.AppRunner(face.application(), handler_cancellation=True, shutdown_timeout=LAST_WORDS, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, service.host, service.port)
        try:
            await site.start()
        except OSError as error:
            raise ConfigError(f"Cannot listen on '{service.host}:{service.port}': {error}.") from error
        await ready_or_stopped(face, stop)
        if not stop.is_set():
            announce(runner.addresses[0], service)
        await stop.wait()
        await site.stop()
        await face.drain()
    finally:
        await runner.cleanup()
        await face.close()


async def ready_or_stopped(face: Face, stop: asyncio.Event) -> None:
    starting, stopping = asyncio.ensure_future(face.engine.address()), asyncio.ensure_future(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if starting.done():
        starting.result()
    else:
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError, BrainError):
            await starting


def listen(stop: asyncio.Event) -> None:
    """Set `stop` at the first signal to end, and end at once at the second."""
    loop = asyncio.get_running_loop()

    def note(number: int, frame: Any) -> None:
        if stop.is_set():
            os._exit(128 + number)
        loop.call_soon_threadsafe(stop.set)

    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), note)


def announce(address: tuple[str, ...], service: Service) -> None:
    """One line for programs, one for people."""
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    url = f"http://{host}:{address[1]}"
    print(json.dumps({"address": url, "model": service.name}), flush=True)
    print(f"Serving '{service.name}' at {url}/v1 until Ctrl-C.", file=sys.stderr, flush=True)
