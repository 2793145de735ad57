"""Whatever is posted to a webhook: no error of ours, no hang, and only what is signed reaches the journal."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import time
from urllib.parse import urlsplit

import pytest
from fuzz.hooks import ANOTHER, HOOKS, Hook
from fuzz.mutations import damage
from fuzz.wire import MB, METHODS, TYPES, VALUES, Headers, ask, bad_chunks, bodies, bombs, chunked, header, odd, written
from kit.rig import LIMIT, Rig
from kit.talk import toml
from seeded import seeded

from roost.testing import Stage

DAMAGED = 80
all_hooks = pytest.mark.parametrize("hook", HOOKS.values(), ids=HOOKS)


@dataclass
class Line:
    """One webhook of a bot that runs. What it takes is kept and not answered."""

    hook: Hook
    rig: Rig
    stage: Stage
    port: int
    host: str
    asked: int = 0

    def signed(self, body: bytes, at: float = 0.0, secret: str = "") -> tuple[str, dict[str, str]]:
        table = self.rig.table() | (dict.fromkeys(("secret", "token", "signing_secret"), secret) if secret else {})
        query, headers = self.hook.sign(table, body, at or time(), f"msg_{self.asked}")
        return self.hook.path + query, {"Content-Type": self.hook.content_type, **headers}

    async def post(self, body: bytes, path: str, headers: Headers, method: str = "POST", **options: bool) -> int:
        return await self.ask(written(method, path, [("Host", self.host), *headers], body, **options))

    async def right(self, body: bytes, more: Headers = ()) -> int:
        """Post something with a right signature, and more headers, which come first."""
        path, headers = self.signed(body)
        return await self.post(body, path, [*more, *headers.items()])

    async def ask(self, request: bytes, whole: bool = True) -> int:
        self.asked += 1
        try:
            status = await ask(self.port, request, whole)
        except TimeoutError:
            raise AssertionError(f"no answer within {LIMIT:g} seconds: {request[:500]!r}") from None
        assert status < 500, f"{status} for {request[:500]!r}"
        return status

    async def kept(self) -> int:
        """How much is in the journal."""
        rows: int = await self.stage.bot.journal.do(lambda db: db.execute("SELECT count(*) FROM inbox").fetchone()[0])
        return rows


@asynccontextmanager
async def running(hook: Hook, folder: Path) -> AsyncIterator[Line]:
    rig = hook.rig(folder)
    await rig.start()
    try:
        table = "\n".join(f"{name} = {toml(value)}" for name, value in rig.table().items())
        closed = f'[access]\ndirect = "closed"\ngroups = "closed"\n[web]\nport = 0\n[channels.{hook.kind}]\n{table}\n'
        async with Stage(folder, config=closed) as stage:
            async with asyncio.timeout(LIMIT):
                await stage.bot.channels[hook.kind].up.wait()
            assert stage.bot.web is not None
            await rig.opened(stage.bot.web.address)
            found = urlsplit(stage.bot.web.address)
            yield Line(hook, rig, stage, found.port or 0, found.netloc)
    finally:
        await rig.stop()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it comes from one address, which is refused more often than an address may be."""
    monkeypatch.setattr("roost.web_limits.BURST", 1e9)


@pytest.fixture
def random() -> Random:
    return seeded()


def wrongly_signed(
    headers: dict[str, str], others: dict[str, str], random: Random
) -> Iterator[list[tuple[str, str | bytes]]]:
    """The headers of a right request, with what signs it gone, damaged, of another, or there several times."""
    names = [name for name in headers if name != "Content-Type"]
    rest = [(name, value) for name, value in headers.items() if name == "Content-Type"]
    yield [*rest]
    for name in names:
        kept = [(other, value) for other, value in headers.items() if other != name]
        yield [*kept]
        for value in (*VALUES, headers[name][:-2], headers[name] + "x", headers[name].swapcase(), headers[name][::-1]):
            if value != headers[name]:
                yield [*kept, (name, value)]
    place = random.randrange(len(names))
    yield [*rest, *((name, others[name]) for name in names)]
    yield [*rest, *((name, value) for name in names for value in (others[name][::-1], "", others[name] + "x"))]
    yield [*rest, *((name if number != place else f"X-{name}", headers[name]) for number, name in enumerate(names))]


@all_hooks
async def test_what_is_not_signed_is_refused_and_leaves_nothing(hook: Hook, tmp_path: Path, random: Random) -> None:
    async with running(hook, tmp_path) as line:
        body = random.choice(hook.messages())
        path, headers = line.signed(body)
        others = line.signed(body, secret=ANOTHER)[1]
        for shown in wrongly_signed(headers, others, random):
            assert 400 <= await line.post(body, path, shown) < 500, shown
        if hook.covers_body:
            for _ in range(20):
                changed = damage(body, "bytes", random)
                if changed != body and hook.kind != "sms":  # a form means the same in several ways
                    assert await line.post(changed, path, [*headers.items()]) == 401, changed
        if hook.window:
            for off in (-3600, 3600, -(hook.window + 30), hook.window + 30):
                path, headers = line.signed(body, time() + off)
                assert await line.post(body, path, [*headers.items()]) == 401
        for method in METHODS:
            assert (await line.post(body, path, [*headers.items()], method) or 400) >= 400, method
        for strange in (
            f"{path}/",
            f"/{path}",
            f"{path}/..",
            "*",
            f"{hook.path}%00",
            "/channels/%2e%2e",
            f"{path}{'/x' * 3000}",
        ):
            assert (await line.post(body, strange, []) or 400) >= 400
        assert await line.kept() == 0


@all_hooks
async def test_what_is_signed_and_damaged_is_no_error_of_ours(hook: Hook, tmp_path: Path, random: Random) -> None:
    async with running(hook, tmp_path) as line:
        seeds = hook.seeds()
        shape, others = ("bytes", ()) if hook.content_type != "application/json" else ("json", seeds)
        for _ in range(DAMAGED):
            await line.right(damage(random.choice(seeds), shape, random, others), [header(random)])
        for body in bodies():
            await line.right(body)
        for kind in TYPES:
            for body in (random.choice(seeds), b"\xff\xfe\x00", b"{}"):
                path, headers = line.signed(body)
                await line.post(body, path, [*(headers | {"Content-Type": kind}).items()])
        assert await line.right(random.choice(hook.messages())) < 300


@all_hooks
async def test_what_is_framed_in_odd_ways_is_no_error_of_ours(hook: Hook, tmp_path: Path, random: Random) -> None:
    async with running(hook, tmp_path) as line:
        body = random.choice(hook.messages())
        for request in odd(line.host, hook.path, body):
            await line.ask(request, whole=False)
        for signed in (False, True):
            path, headers = line.signed(body)
            shown = [("Host", line.host), *(headers.items() if signed else ()), ("Transfer-Encoding", "chunked")]
            for chunks in bad_chunks():
                await line.ask(written("POST", path, shown, chunks, length=False), whole=False)
            assert await line.kept() == 0
        assert await line.ask(written("POST", path, shown, chunked(body), length=False)) < 300
        assert await line.kept() == 1


@all_hooks
async def test_a_request_that_is_sent_again_counts_once(hook: Hook, tmp_path: Path, random: Random) -> None:
    async with running(hook, tmp_path) as line:
        body = random.choice(hook.messages())
        path, headers = line.signed(body)
        for _ in range(3):
            assert await line.post(body, path, [*headers.items()]) < 300
        assert await line.kept() == 1


async def test_little_that_becomes_much_is_not_unpacked(tmp_path: Path) -> None:
    hook = HOOKS["webhook"]
    async with running(hook, tmp_path) as line:
        packed = bombs()
        for signed in (False, True):
            for encoding, body in packed:
                path, headers = line.signed(body)
                shown = [*(headers.items() if signed else ()), ("Content-Encoding", encoding)]
                tracemalloc.start()
                await line.post(body, path, shown)
                most = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                assert most < 30 * MB, f"{len(body)} bytes of {encoding} took {most} bytes"
        assert await line.kept() == 0


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("body", [b"no gzip", gzip.compress(b"{}")[:-9]], ids=["other", "cut"])
async def test_what_is_not_packed_as_it_says_is_no_error_of_ours(encoding: str, body: bytes, tmp_path: Path) -> None:
    async with running(HOOKS["webhook"], tmp_path) as line:
        path, headers = line.signed(body)
        for shown in (headers, {}):
            assert await line.post(body, path, [*shown.items(), ("Content-Encoding", encoding)]) in (0, 400, 401)
