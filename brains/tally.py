"""What a served model is asked, in numbers that Prometheus reads.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import time
from collections import defaultdict

from aiohttp import web
from aiohttp.typedefs import Handler

GONE = 499  # who asked went away first
HEADS = {
    "roost_requests_total": ("counter", "Requests answered."),
    "roost_request_seconds_total": ("counter", "Time they took, until their last byte."),
    "roost_requests_running": ("gauge", "Requests in progress."),
    "roost_engine_starts_total": ("counter", "Starts of the engine."),
}


class Tally:
    """Counts requests, as a middleware."""

    def __init__(self) -> None:
        self.running = 0
        self.served: dict[tuple[str, int], int] = defaultdict(int)
        self.seconds: dict[str, float] = defaultdict(float)

    @web.middleware
    async def count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        route = request.match_info.route.resource
        path = route.canonical if route is not None else "other"
        begun, status = time.perf_counter(), GONE
        self.running += 1
        try:
            response = await handler(request)
            status = response.status
            return response
        finally:
            self.running -= 1
            self.served[path, status] += 1
            self.seconds[path] += time.perf_counter() - begun

    def text(self, starts: int) -> str:
        values: dict[str, list[tuple[str, float]]] = {
            "roost_requests_total": [
                (f'{{path="{path}",status="{status}"}}', count) for (path, status), count in sorted(self.served.items())
            ],
            "roost_request_seconds_total": [
                (f'{{path="{path}"}}', round(took, 6)) for path, took in sorted(self.seconds.items())
            ],
            "roost_requests_running": [("", self.running)],
            "roost_engine_starts_total": [("", starts)],
        }
        lines = []
        for name, (kind, meaning) in HEADS.items():
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
            lines += [f"{name}{labels} {value}" for labels, value in values[name]]
        return "\n".join(lines) + "\n"
