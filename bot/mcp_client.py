"""One connection to an MCP server: opened, listed, watched for changes, called. Imported only when there is one."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import mcp.types as mcp
from mcp import Client, MCPError
from mcp.client import Transport
from mcp.client.streamable_http import streamable_http_client
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from roost.errors import RoostError
from roost.mcp_pipe import LONGEST, Child, environment, program
from roost.mcp_tools import Listing, listing, printable, result_text
from roost.settings import McpTable
from roost.tools import BadCall

PAGES = 100
MOST_LISTED = 5000  # tools that are looked at
SHOWN = 300  # characters of what a server says about an error

# The SDK logs what a server sends that it does not understand, in full and as often as it comes.
logging.getLogger("mcp").setLevel(logging.CRITICAL)


class Connection:
    """A server that is connected. `look` is set when its tools may have changed, or when it may be gone."""

    def __init__(self, name: str, table: McpTable, folder: Path) -> None:
        self.look = asyncio.Event()
        self.gone = asyncio.Event()
        self._name, self._table, self._folder = name, table, folder
        self._child: Child | None = None
        self._client: Client | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Connect within the table's time. Raises whatever goes wrong on the way; `trouble` tells it in words."""
        async with AsyncExitStack() as stack:
            if self._table.url:
                transport = await stack.enter_async_context(self._over_http())
            else:
                self._child = self._made()
                transport = self._child.streams()
            client = Client(transport, message_handler=self._heard, cache=None)
            async with asyncio.timeout(self._table.timeout):
                self._client = await stack.enter_async_context(client)
            tasks = [asyncio.create_task(self._follow(client)), asyncio.create_task(self._watch())]
            try:
                yield
            finally:
                self._client = None
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def list(self) -> Listing:
        """Ask for its tools, within the table's time."""
        client = self._connected()
        found: list[mcp.Tool] = []
        async with asyncio.timeout(self._table.timeout):
            cursor: str | None = None
            for _ in range(PAGES):
                page = await client.list_tools(cursor=cursor)
                found += page.tools
                cursor = page.next_cursor
                if cursor is None or len(found) > MOST_LISTED:
                    break
        return listing(self._name, found[:MOST_LISTED], self._table.allow, self._table.deny)

    async def due(self, lull: float) -> None:
        """Wait until its tools are to be listed again, `lull` seconds at least. Raises RoostError when it is gone."""
        try:
            async with asyncio.timeout(lull):
                await self.gone.wait()
        except TimeoutError:
            await self.look.wait()
        self.look.clear()
        if self.gone.is_set():
            raise RoostError("It is gone.")

    async def call(self, tool: str, given: str) -> str:
        """Call a tool with arguments as JSON. Raises RoostError; cancelling it is told to the server."""
        arguments = object_of(given)
        client = self._connected()
        try:
            return result_text(self._name, await client.call_tool(tool, arguments))
        except MCPError as error:
            self.look.set()
            raise RoostError(f"The MCP server '{self._name}' says: {shown(error.message)}") from error
        except asyncio.CancelledError:
            self.look.set()
            raise
        except Exception as error:
            self.look.set()
            raise RoostError(f"The MCP server '{self._name}' gave no answer of use: {trouble(error)}") from error

    def trouble(self, error: BaseException) -> str:
        """What went wrong, and what the server said last, as sentences."""
        said = self._child.last_words() if self._child is not None and self._child.why else ""
        if isinstance(error, TimeoutError):
            said = said or f"It did not answer within {self._table.timeout:g} seconds."
            return said + ("" if self._table.url else " A first start that has to install something may take longer.")
        return said or trouble(error)

    def _connected(self) -> Client:
        if self._client is None:
            raise RoostError(f"The MCP server '{self._name}' is not connected now. It is tried again.")
        return self._client

    def _made(self) -> Child:
        table, folder = self._table, self._folder
        env = environment(dict(table.env))
        cwd = folder / Path(table.cwd).expanduser() if table.cwd else folder
        return Child(program(table.command, table.args, env, cwd), env, cwd)

    @asynccontextmanager
    async def _over_http(self) -> AsyncIterator[Transport]:
        headers = dict(self._table.headers)
        limits = httpx2.Timeout(30.0, read=None)
        async with httpx2.AsyncClient(headers=headers, timeout=limits, transport=Bounded()) as client:
            yield streamable_http_client(self._table.url, http_client=client)

    async def _heard(self, message: object) -> None:
        if isinstance(message, mcp.ToolListChangedNotification):
            self.look.set()

    async def _watch(self) -> None:
        if self._child is not None:
            await self._child.ended.wait()
            self.gone.set()
            self.look.set()

    async def _follow(self, client: Client) -> None:
        """Newer servers tell of changes only those who listen for them."""
        tools = client.server_capabilities.tools
        if client.protocol_version not in MODERN_PROTOCOL_VERSIONS or tools is None or not tools.list_changed:
            return
        with suppress(MCPError, RuntimeError, TimeoutError):
            async with client.listen(tools_list_changed=True) as changes:
                self.look.set()  # they may have changed between the listing and this
                async for _ in changes:
                    self.look.set()
        self.look.set()


class Bounded(httpx2.AsyncHTTPTransport):
    """Refuses an answer that is longer than any message may be; streams of events have a bound for each event."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            response.stream = Short(response.stream)
        return response


class Short(httpx2.AsyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self._stream:
            size += len(part)
            if size > LONGEST:
                raise httpx2.StreamError(f"The answer has more than {LONGEST >> 20} MB.")
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


def object_of(given: str) -> dict[str, Any]:
    try:
        arguments = json.loads(given or "{}")
    except (ValueError, RecursionError) as error:
        raise BadCall(f"The arguments are not JSON: {error}.") from None
    if not isinstance(arguments, dict):
        raise BadCall("The arguments are not a JSON object.")
    return arguments


def trouble(error: BaseException) -> str:
    """The first cause in words, bounded: what a server sends may be part of it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, MCPError):
        return shown(error.message)
    return shown(str(error)) if isinstance(error, RoostError) else shown(f"{type(error).__name__}: {error}")


def shown(text: str) -> str:
    text = printable(text)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
