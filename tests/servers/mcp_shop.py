"""An MCP server made with the official SDK: `python mcp_shop.py` over stdio, with `http PORT` over streamable HTTP.

Over HTTP it wants the header `Authorization: Bearer open sesame`.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

TOKEN = b"Bearer open sesame"
Messages = Callable[..., Awaitable[Any]]

shop = MCPServer("shop", version="1.0")


@shop.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@shop.tool()
async def grow(context: Context) -> str:
    """Get a new tool."""
    shop.add_tool(lambda: "new indeed", "fresh", description="A new tool.")
    await context.notify_tools_changed()
    return "grown"


@shop.tool()
async def work(context: Context) -> str:
    """Work for long, and tell how far it is."""
    for step in range(1000):
        await context.report_progress(step, 1000)
        await asyncio.sleep(0.05)
    return "done"


@shop.tool()
def long() -> str:
    """Answer with more than anybody can read."""
    return "x" * (6 << 20)


def guarded(app: Messages) -> Messages:
    async def guard(scope: MutableMapping[str, Any], receive: Messages, send: Messages) -> None:
        if scope["type"] == "http" and (b"authorization", TOKEN) not in scope["headers"]:
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b"who are you?"})
            return
        await app(scope, receive, send)

    return guard


def serve(port: int, json_response: bool) -> None:
    listening = socket.create_server(("127.0.0.1", port))
    print(listening.getsockname()[1], flush=True)
    app = guarded(shop.streamable_http_app(json_response=json_response))
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listening])


if __name__ == "__main__":
    if sys.argv[1:2] == ["http"]:
        serve(int(sys.argv[2]), "json" in sys.argv)
    else:
        shop.run()
