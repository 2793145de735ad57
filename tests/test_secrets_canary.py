"""A canary in every secret of every channel, brain, ear, server and plugin: none is ever seen again."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any

import aiohttp
import click
import pytest

from roost import settings
from roost.cli import main
from roost.errors import ConfigError
from roost.references import SECRET_NAME
from roost.registry import Registry
from roost.settings import McpTable, WebTable
from roost.tables import required

PATIENCE = 60.0
PAGES = 60  # of the console that are looked at
HEARING = "hearing"

# Secrets that have to look like what they are; {} is the part that is looked for.
SHAPES = {
    ("slack", "token"): "xoxb-{}",
    ("slack", "app_token"): "xapp-{}",
    ("nostr", "secret_key"): "{}" * 4,
    ("telegram", "token"): "110201543:{}",
    ("telegram", "secret"): "{}",
    ("far", "headers"): "Bearer {}",
}
SHAPE = '{}/+ &="<%\\é'

# Whatever a channel needs to be told beside its secrets. Nothing here leads away from this machine.
PLAIN = {
    **dict.fromkeys(("address", "jid", "username", "handle", "account", "system_id", "nick", "user_id"), "canary"),
    **dict.fromkeys(("host", "imap_host", "smtp_host", "server"), "127.0.0.1"),
    **dict.fromkeys(("base_url", "url", "homeserver", "api_root"), "http://127.0.0.1:9/"),
    **dict.fromkeys(("listen", "speak", "number"), "15551234567"),
}

MARK = "-- done --\n"
ONE_BY_ONE = f"""
import sys, roost.cli
for words in sys.argv[1:]:
    try:
        roost.cli.main(words.split())
    except SystemExit:
        sys.stdout.write({MARK!r})
        sys.stdout.flush()
"""

LEAKY = '''
import base64, logging, socket, sys, urllib.parse
from roost import Message, Reply, command, hookimpl, options, tool, trial
from roost.contracts import Channel, ChannelConfig, Route, unsigned
from roost.errors import NotSent, RoostError
from roost.keys import key
from dataclasses import dataclass

real = socket.getaddrinfo
def here(host, *more, **others):
    if host in ("127.0.0.1", "localhost", "::1", None, ""):
        return real(host, *more, **others)
    raise socket.gaierror(-2, f"no {host} here")
socket.getaddrinfo = here
trial.PATIENCE = 1.0
log = logging.getLogger("leaky")
kept = []

@options
class Options:
    token: str = key("", help="A key.", secret=True)
    rooms: dict[str, str] = key(factory=dict, help="Keys.", secret=True)

def spilled(bot):
    found = bot.options(Options)
    return [found.token, *found.rooms.values(), *kept]

@hookimpl
def startup(bot):
    for one in spilled(bot):
        print("printed", one, [one], repr(bot.config))
        print(urllib.parse.quote(one), base64.b64encode(b"user:" + one.encode()).decode(), file=sys.stderr)
        log.error("logged %s %r", one, {"token": one})
    raise ValueError(f"cannot log in with {spilled(bot)}")

@command
def spill(bot) -> str:
    """Fail with a sentence."""
    raise RoostError("refused: " + " ".join(spilled(bot)))

@command
def burst(bot) -> str:
    """Fail."""
    raise KeyError(*spilled(bot))

@dataclass(frozen=True, slots=True, kw_only=True)
class Config(ChannelConfig):
    token: str = key(help="A key.", secret=True)

class Leaky(Channel):
    Config = Config
    async def run(self, receive):
        kept.append(self.config.token)
        self.host.pulse()
        raise OSError(f"GET https://x/bot{self.config.token}/getMe: {self.config}")
    async def send(self, place, reply):
        raise NotSent(f"POST https://x/?token={urllib.parse.quote_plus(self.config.token)}: no")
    def routes(self):
        return (Route("GET", "/leaky", self.page, unsigned),)
    async def page(self, request):
        from aiohttp import web
        if "kind" in request.query:
            raise ValueError(self.config.token)
        raise web.HTTPBadRequest(text=self.config.token)

@hookimpl
def register_channels(register):
    register("leaky", Leaky)
'''


class Canaries:
    """Secrets that tell where they were put, by a part that no encoding of URLs, JSON or HTML changes."""

    def __init__(self) -> None:
        self.marks: dict[str, str] = {}
        self.values: dict[tuple[str, str], str] = {}

    def new(self, where: str, name: str) -> str:
        """What is written is a secret with one mark in it; a mark is hexadecimal, so that it may be a key as well."""
        mark = hashlib.sha256(f"{where} {name}".encode()).hexdigest()[:16]
        self.marks[mark] = f"{where} {name}"
        value = SHAPES.get((where, name), SHAPE).replace("{}", mark)
        if (where, name) == ("webhook", "secret"):
            coded = base64.b64encode(mark.encode() * 2).decode()
            self.marks[coded[4:20]] = f"{where} {name} in base64"
            value = f"whsec_{coded}"
        self.values[where, name] = value
        return value

    def seen(self, text: str) -> list[str]:
        return [where for mark, where in self.marks.items() if any(form in text for form in forms(mark))]


def forms(mark: str) -> Iterator[str]:
    yield mark
    yield mark.encode().hex()
    for before in range(3):
        yield base64.b64encode(bytes(before) + mark.encode()).decode()[4:20]


def table(cls: type[Any], where: str, canaries: Canaries) -> Iterator[str]:
    for one in fields(cls):
        if one.metadata.get("secret"):
            yield f"{one.name} = {secret(one, where, canaries)}"
        elif one.name in PLAIN and one.type in ("str", str):
            yield f"{one.name} = {json.dumps(PLAIN[one.name])}"
        elif required(one):
            yield f"{one.name} = {json.dumps('canary' if one.type == 'str' else ['canary'])}"


def secret(one: Field[Any], where: str, canaries: Canaries) -> str:
    if "dict" in str(one.type):
        return f"{{ A = {json.dumps(canaries.new(where, one.name))} }}"
    return json.dumps(canaries.new(where, one.name))


def configuration(registry: Registry, canaries: Canaries) -> str:
    """Everything that has secrets, switched on at once, and found as `roost config schema` finds it."""
    parts = ['[privacy]\nstrict = true\n[bot]\nlog = "debug"']
    kinds = [kind for kind in registry.channels.entries if kind not in registry.channels.always]
    for kind in (*kinds, "leaky"):
        try:
            lines = (
                table(registry.channels.take(kind).Config, kind, canaries)
                if kind != "leaky"
                else [f"token = {json.dumps(canaries.new(kind, 'token'))}"]
            )
        except ConfigError:
            continue  # its package is not installed here
        parts.append("\n".join([f"[channels.{kind}]", *lines]))
    brain = 'use = "openai"\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "none"'
    keys = {name: json.dumps(canaries.new(name, "api_key")) for name in ("brain", "brains.other")}
    parts += [f"[{name}]\n{brain}\napi_key = {value}" for name, value in keys.items()]
    parts += ["\n".join([f"[brains.{kind}]", f'use = "{kind}"', *lines]) for kind, lines in brains(registry, canaries)]
    for shelf, name in ((registry.hearings, HEARING), (registry.memories, "memory")):
        use = next((kind for kind in shelf.entries if secrets_of(shelf.take(kind).Config)), "")
        if use:
            lines = [*table(shelf.take(use).Config, name, canaries)]
            parts.append("\n".join([f"[{name}]", f'use = "{use}"', *lines]))
    parts.append(
        "\n".join(["[web]", "port = 0", *table(WebTable, "WebTable", canaries)]).replace('host = "127.0.0.1"\n', "")
    )
    for name, how in (
        ("run", f"command = {json.dumps(sys.executable)}\nargs = ['-c', '1/0']"),
        ("far", 'url = "http://127.0.0.1:9/"'),
    ):
        keys = [f"{one} = {{ A = {json.dumps(canaries.new(name, one))} }}" for one in secrets_of(McpTable)]
        parts.append("\n".join([f"[mcp.{name}]", how, *keys]))
    options = {name: cls for name, cls in registry.options.items() if secrets_of(cls)}
    for name, cls in options.items():
        parts.append("\n".join([f"[plugins.{name}]", *table(cls, name, canaries)]))
    keys = [f"token = {json.dumps(canaries.new('plugin', 'token'))}", "rooms = { a = 'env:CANARY', b = 'file:FILE' }"]
    return "\n\n".join([*parts, "\n".join(["[plugins.leaky]", *keys])])


def brains(registry: Registry, canaries: Canaries) -> Iterator[tuple[str, list[str]]]:
    """Every kind of brain, none of which is asked."""
    for kind in registry.brains.entries:
        cls = registry.brains.take(kind).Config
        if secrets_of(cls):
            yield kind, [line for line in table(cls, kind, canaries) if not line.startswith("use ")]


def tables(registry: Registry) -> Iterator[tuple[str, type[Any]]]:
    """Every class that a table of bot.toml becomes, as far as it is installed here, with where its canaries are."""
    yield from ((name, cls) for name, cls in vars(settings).items() if isinstance(cls, type) and is_dataclass(cls))
    for shelf in (registry.channels, registry.brains, registry.hearings, registry.memories):
        for kind in shelf.entries:
            try:
                yield HEARING if shelf is registry.hearings else kind, shelf.take(kind).Config
            except ConfigError:
                continue  # its package is not installed here
    yield from registry.options.items()


def secrets_of(cls: type[Any]) -> list[str]:
    return [one.name for one in fields(cls) if one.metadata.get("secret")]


class House:
    """A data folder, a configuration, and what was printed by all that was run there."""

    def __init__(self, folder: Path, canaries: Canaries) -> None:
        self.folder = folder
        self.said: dict[str, str] = {}
        registry = Registry()
        registry.load()
        self.config = folder / "bot.toml"
        text = configuration(registry, canaries)
        (folder / "plugins").mkdir()
        (folder / "plugins" / "leaky.py").write_text(LEAKY)
        (folder / "canary").write_text(canaries.new("plugin", "file") + "\n", encoding="utf-8")
        self.config.write_text(text.replace("file:FILE", f"file:{folder / 'canary'}"), encoding="utf-8")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ROOST_")}
        self.environment = {**kept, "ROOST_HOME": str(folder / "home"), "PYTHONUTF8": "1", "NO_PROXY": "*"}
        self.environment |= {"CANARY": canaries.new("plugin", "env")}

    async def begin(self, *words: str, stdin: int = asyncio.subprocess.DEVNULL) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", ONE_BY_ONE, *words),
            stdin=stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**self.environment, "ROOST_CONFIG": str(self.config)},
            cwd=self.folder,
            limit=1 << 24,
        )

    async def say(self, *commands: str, text: str = "") -> None:
        """Keep what these commands print, one after the other in one process."""
        process = await self.begin(*commands, stdin=asyncio.subprocess.PIPE)
        async with asyncio.timeout(PATIENCE):
            out, _ = await process.communicate(text.encode())
        for command, part in zip(commands, out.decode().split(MARK), strict=False):
            self.said[f"{command} {text}".rstrip()] = part


class Bot:
    """`roost run` in that house, and what it has printed until now."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.text = ""

    async def until(self, *patterns: str) -> None:
        """Read on until each of these was printed."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while not all(re.search(one, self.text) for one in patterns):
                line = await self.process.stdout.readline()
                assert line, self.text
                self.text += line.decode()

    async def end(self) -> None:
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            self.text += (await self.process.stdout.read()).decode()
            await self.process.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="A process there cannot be asked to stop")
async def test_no_canary_is_seen_in_anything_that_is_printed_kept_or_answered(tmp_path: Path) -> None:
    canaries = Canaries()
    house = House(tmp_path, canaries)
    bot = Bot(await house.begin("run"))
    try:
        await bot.until(
            r"is ready: (\S+)",
            "The channel 'leaky' is waiting",
            "The channel 'gotify' is waiting",
            "mcp.* 'far' is not",
        )
        await asyncio.gather(*(house.say("chat", text=text) for text in ("hello", "/spill", "/burst")))
        house.said |= {name: text async for name, text in pages(bot.text)}
        house.said |= {name: text async for name, text in console(bot.text, canaries.values["WebTable", "token"])}
        await house.say(*WHILE_IT_RUNS)
    finally:
        await bot.end()
    await house.say(*AFTERWARDS)
    house.said["run"] = bot.text
    house.said |= {str(path): path.read_bytes().decode("utf-8", "replace") for path in kept(tmp_path / "home")}
    assert {where: found for where, text in house.said.items() if (found := canaries.seen(text))} == {}
    proof(house, canaries)


# What is run, and looked through. A command that is new has to be here, or among those that are not, with a reason.
WHILE_IT_RUNS = (
    "journal check",
    "letters list",
    "letters show 1",
    "people list",
    "people approve stage:ann",
    "people role stage:ann guest",
    "people block stage:ann",
    "people remove stage:ann",
    "people link stage:ann stage:bob",
    "people unlink stage:ann",
    "channels test leaky",
    "memory list",
    "memory log terminal:terminal",
    "memory search terminal:terminal hello",
    "memory compact terminal:terminal",
)
AFTERWARDS = (
    "doctor",
    "doctor --security",
    "config schema",
    "config check",
    "config path",
    "plugins list",
    "channels list",
    "channels add leaky --no-trial",
    "privacy report",
    "letters resend 99",
    "letters drop 99",
    "memory check",
    "memory forget terminal:terminal",
    "encryption status",
    "encryption off",
    "model list",
    "model info",
)
OTHERWISE = {
    "run": "it is what all of this is about",
    "chat": "it is said something",
    "mcp": "it serves over its standard input",
    "memory shell": "it talks over its standard input",
    "serve-model": "it knows no bot.toml",
}
# Commands that work on files which they are given, and read no secret of bot.toml; or on the key of the folder.
FILES = ("model ", "new ", "memory export", "memory import", "plugins install", "encryption ")


def leaves(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[str]:
    for name, one in group.commands.items():
        if isinstance(one, click.Group):
            yield from leaves(one, (*words, name))
        else:
            yield " ".join((*words, name))


def test_every_command_is_run_with_canaries_or_known_not_to_need_it() -> None:
    main.list_commands(click.Context(main))
    run = {" ".join(line.split()[:2]) for line in (*WHILE_IT_RUNS, *AFTERWARDS)} | set(AFTERWARDS)
    left = [one for one in leaves(main) if one not in run and one not in OTHERWISE and not one.startswith(FILES)]
    assert left == []


def test_every_secret_of_every_table_gets_a_canary() -> None:
    registry, canaries = Registry(), Canaries()
    registry.load()
    configuration(registry, canaries)
    planted = canaries.values.keys() | {
        ("McpTable", name) for where, name in canaries.values if where in ("run", "far")
    }
    wanted = {(where, name) for where, cls in tables(registry) for name in secrets_of(cls)}
    assert len(wanted) > 25 and wanted - planted == set()


# What sounds like a secret and is none: counts of tokens, a name, the path of a file.
HARMLESS = re.compile(r"tokens|^authserv_id$|^auth_user$|^certificate_key$")


def test_every_key_that_sounds_like_a_secret_is_one() -> None:
    registry = Registry()
    registry.load()
    for where, cls in tables(registry):
        for one in fields(cls):
            if SECRET_NAME.search(one.name) and not HARMLESS.search(one.name):
                assert one.metadata.get("secret"), f"{where}: {one.name} is printed as it is"


async def console(log: str, token: str) -> Any:
    """The pages that somebody who has logged in gets to by the links on them."""
    found = re.search(r"is ready: (\S+)", log)
    assert found is not None
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        origin = {"Origin": found[1].rstrip("/")}
        async with session.post(f"{found[1]}/login", data={"token": token}, headers=origin) as response:
            assert response.status == 200 and response.url.path != "/login", await response.text()
        seen, ahead = set(), ["/"]
        while ahead and len(seen) < PAGES:
            path = ahead.pop()
            seen.add(path)
            async with session.get(f"{found[1]}{path}") as response:
                text = (await response.read()).decode("utf-8", "replace")
                yield f"console {path}", f"{response.headers}{text}"
            links = re.findall(r"(?:href|src|action)=[\"'](/[^\"'#]*)", text)
            ahead += [one for one in links if one not in seen and one not in ahead and "logout" not in one]


async def pages(log: str) -> Any:
    found = re.search(r"is ready: (\S+)", log)
    assert found is not None
    async with aiohttp.ClientSession() as session:
        for path in ("/leaky", "/leaky?kind=1", "/", "/login", "/channels/webhook", "/nothing"):
            async with session.get(f"{found[1]}{path}") as response:
                yield path, f"{response.headers}{await response.text()}"
        async with session.post(f"{found[1]}/login", data={"token": "wrong"}) as response:
            yield "login", f"{response.headers}{await response.text()}"
        async with session.post(f"{found[1]}/channels/webhook", data="{}") as response:
            yield "webhook", f"{response.headers}{await response.text()}"


def kept(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file()]


def proof(house: House, canaries: Canaries) -> None:
    """That there was something to be hidden, and that what was run is what was meant to be."""
    run = house.said["run"]
    assert run.count("(hidden)") > 20 and "Traceback" in run
    assert "(hidden)" in house.said["chat /spill"] and "(hidden)" in house.said["/leaky"]
    assert "leaky" in house.said["plugins list"] and '"$schema"' in house.said["config schema"]
    assert "Everybody on this machine can read" in house.said["doctor --security"]
    assert len(canaries.marks) > 25 and canaries.seen(house.config.read_text()), "there is nothing to look for"


@pytest.mark.parametrize("encoded", [str, lambda one: base64.b64encode(b"user:" + one.encode()).decode()])
def test_a_canary_is_seen_where_there_is_one(encoded: Any) -> None:
    canaries = Canaries()
    value = canaries.new("telegram", "token")
    assert canaries.seen(f"x {encoded(value)} y") == ["telegram token"]
    assert canaries.seen("nothing here") == []
