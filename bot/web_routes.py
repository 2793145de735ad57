"""The routes of the web face: whose each path is, and what its names stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from aiohttp import hdrs, web

from roost.contracts import Route
from roost.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Mounted:
    """One route and its owner."""

    owner: str
    route: Route
    segments: tuple[str, ...]

    @property
    def shape(self) -> tuple[str, ...]:
        return (self.route.method, *("{}" if _is_name(part) else part for part in self.segments))

    def match(self, segments: Sequence[str]) -> dict[str, str] | None:
        """The values of the path's names, or None when the path is another."""
        if len(segments) != len(self.segments):
            return None
        pairs = list(zip(self.segments, segments, strict=True))
        if any(not _is_name(part) and part != value for part, value in pairs):
            return None
        return {part[1:-1]: value for part, value in pairs if _is_name(part)}


class Routes:
    """What is mounted. A literal segment wins over a name."""

    def __init__(self) -> None:
        self._mounted: list[Mounted] = []

    def mount(self, owner: str, routes: Sequence[Route]) -> None:
        """Add an owner's routes, all or none. Raises ConfigError when one of them already has an owner."""
        fresh: list[Mounted] = []
        for route in routes:
            entry = Mounted(owner, route, tuple(route.path.split("/")[1:]))
            for other in (*self._mounted, *fresh):
                if other.shape == entry.shape:
                    raise ConfigError(
                        f"'{owner}' and '{other.owner}' both want the path '{route.path}' ({route.method}) of "
                        "the web face. Switch one of them off, or give it another path, in bot.toml."
                    )
            fresh.append(entry)
        self._mounted = sorted([*self._mounted, *fresh], key=lambda entry: [*map(_is_name, entry.segments)])

    def unmount(self, owner: str) -> None:
        """Take an owner's routes away; what they are answering goes on."""
        self._mounted = [entry for entry in self._mounted if entry.owner != owner]

    def find(self, request: web.Request) -> Mounted:
        """The route of a request, whose `match_info` becomes the values of its names. Raises 404 or 405."""
        segments = [unquote(part) for part in request.rel_url.raw_path.split("/")[1:]]
        method = hdrs.METH_GET if request.method == hdrs.METH_HEAD else request.method
        methods: set[str] = set()
        for entry in self._mounted:
            names = entry.match(segments)
            if names is None:
                continue
            if entry.route.method == method:
                request.match_info.clear()
                request.match_info.update(names)
                return entry
            methods.add(entry.route.method)
        if methods:
            raise web.HTTPMethodNotAllowed(request.method, sorted(methods), text="This path has another method.")
        raise web.HTTPNotFound(text="There is nothing here.")


def _is_name(segment: str) -> bool:
    return segment.startswith("{") and segment.endswith("}")
