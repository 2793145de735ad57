"""The event loop of the tests."""

from __future__ import annotations

import asyncio
from typing import Any

# How long connections may take to end after the test has, in seconds. TLS needs a round trip.
GRACE = 10.0


class Loop(asyncio.SelectorEventLoop):
    """Waits for the connections that are being closed when it ends, and fails the test that leaves one open.

    asyncio's own loop forgets them, and warns when they are collected, in the midst of some later test.
    """

    def close(self) -> None:
        try:
            if not self.is_closed():
                self.run_until_complete(self._settle())
        finally:
            super().close()

    def open_connections(self) -> list[Any]:
        return [one for one in self._transports.values() if one.get_extra_info("socket").fileno() >= 0]  # type: ignore[attr-defined]

    async def _settle(self) -> None:
        try:
            async with asyncio.timeout(GRACE):
                while self.open_connections():
                    await asyncio.sleep(0.001)
        except TimeoutError:
            left = self.open_connections()
            for one in left:
                one.abort()
            await asyncio.sleep(0)
            raise AssertionError(f"The test leaves connections open: {left}") from None
