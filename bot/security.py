"""`roost doctor --security`: what in the configuration lets others in, or lets out what is private."""

from __future__ import annotations

import contextlib
import shlex
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from roost.cipher import is_begun
from roost.config import Config
from roost.egress_rules import is_home
from roost.proof import forgeable, unproven
from roost.references import exposures, is_open
from roost.registry import Registry
from roost.rules import doubts
from roost.settings import AccessTable, McpTable
from roost.web_doubts import web_doubts
from roost.webhooks import unsigned_webhooks

PLAIN = ("http", "ws", "mqtt", "ldap", "ftp")  # schemes of connections that anybody on the way can read
SHOWN = 5  # names in a sentence


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a report. What is not `ok` is to be mended, unless it is `advice`, which is for you to decide."""

    ok: bool
    text: str
    advice: bool = False


def wrong(text: str) -> Finding:
    return Finding(False, text)


def advice(text: str) -> Finding:
    return Finding(False, text, advice=True)


def fine(text: str) -> Finding:
    return Finding(True, text)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is looked at: a configuration, what its plugins have registered, the data folder."""

    config: Config
    registry: Registry
    home: Path


def weaknesses(subject: Subject) -> Iterator[Finding]:
    """Everything there is to say, one check after the other; one with nothing to complain of says so."""
    for name, check in CHECKS.items():
        found = list(check(subject))
        yield from found or [fine(f"{name}.")]


# Who gets in


def _strangers(subject: Subject) -> Iterator[Finding]:
    for where, table in _access(subject.config.access):
        if table.direct == "open":
            yield wrong(
                f"[{where}] direct = 'open': whoever finds the bot can talk to it, and use your machine to answer. "
                'Write "pairing" or "allowlist"; where it is meant, set messages_per_hour and tokens_per_day.'
            )


def _groups(subject: Subject) -> Iterator[Finding]:
    for where, table in _access(subject.config.access):
        if table.groups == "open":
            yield wrong(
                f"[{where}] groups = 'open': everybody in any group that the bot is added to gets answers. "
                'Write "addressed", which answers people who are known, or "closed".'
            )


def _access(table: AccessTable) -> Iterator[tuple[str, Any]]:
    yield "access", table
    yield from ((f"access.channels.{name}", one) for name, one in table.channels.items())
    yield from ((f'access.places."{name}"', one) for name, one in table.places.items())


def _owner(subject: Subject) -> Iterator[Finding]:
    remote = [name for name, one in subject.config.channels.items() if not one.cls.local]
    if remote and not subject.config.bot.owner and not _has_owner(subject.home / "journal.db"):
        yield wrong(
            "The bot has no owner yet, so nobody can let people in or block them. Send it the code that it prints when "
            "it is started, or write your id in [bot] owner, such as 'telegram:42'."
        )


def _has_owner(journal: Path) -> bool:
    """Whether somebody has claimed the bot."""
    return "owner" in _known(journal).values()


def _known(journal: Path) -> dict[str, str]:
    """The roles of everybody who was let in, by id. Nothing is written, so that a bot may run meanwhile."""
    if not journal.is_file():
        return {}
    # Without a log beside it nobody has it open, and even reading it would leave files there.
    log = journal.with_name(f"{journal.name}-wal").exists()
    address = f"{journal.as_uri()}?{'mode=ro' if log else 'immutable=1'}"
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(address, uri=True)) as db:
        return dict(db.execute("SELECT id, role FROM person WHERE NOT blocked AND role != 'stranger'").fetchall())
    return {}


def _names(subject: Subject) -> Iterator[Finding]:
    yield from map(wrong, doubts(subject.config.access))


def _forgers(subject: Subject) -> Iterator[Finding]:
    """Ids that somebody else can write in the name of, and what they may do."""
    channels = subject.config.channels
    for where, person in _trusted(subject):
        if why := unproven(channels, person):
            yield wrong(
                f"{where}: '{person}' is no proof of who writes: {why}. Whoever forges it may do what its bearer may. "
                "Take it out, or have the id proven: the page of its channel says how."
            )
        elif (why := forgeable(channels, person)) and where != "[access] people":
            yield advice(f"{where}: '{person}' can be forged, since {why}. Keep such a role for another platform.")
    listed = [one for _, table in _access(subject.config.access) for one in table.people]
    for name in dict.fromkeys(one.partition(":")[0] for one in listed if forgeable(channels, one)):
        why = forgeable(channels, f"{name}:")
        yield advice(f"[access] people lets in ids of '{name}', and {why}. Give them nothing that is for you alone.")


def _trusted(subject: Subject) -> Iterator[tuple[str, str]]:
    """Where it stands that somebody is more than a guest, and who."""
    if subject.config.bot.owner:
        yield "[bot] owner", subject.config.bot.owner
    for where, table in _access(subject.config.access):
        yield from ((f"[{where}] people", person) for person in table.people)
    for person, role in _known(subject.home / "journal.db").items():
        if role in ("admin", "owner"):
            yield f"the role '{role}'", person


# The web face


def _web(subject: Subject) -> Iterator[Finding]:
    if subject.config.web.enabled:
        yield from (wrong(one.text) if one.wrong else advice(one.text) for one in web_doubts(subject.config.web))


def _webhooks(subject: Subject) -> Iterator[Finding]:
    for channel, what in unsigned_webhooks(subject.config.channels):
        yield wrong(
            f"[channels.{channel}]: {what}. Anybody can post messages there in anybody's name. Set the secret that its "
            "platform signs with, or switch the channel off."
        )


# Secrets


def _secrets(subject: Subject) -> Iterator[Finding]:
    yield from map(wrong, exposures(subject.config.path, subject.config.origins))
    for where, table in _tables(subject.config):
        if clear := _in_clear(table):
            yield advice(
                f"[{where}] {clear}: what goes there, secrets perhaps too, can be read by whoever is between. "
                "Use an address with TLS, unless the network between them is yours alone."
            )


def _tables(config: Config) -> Iterator[tuple[str, Any]]:
    yield from ((f"channels.{name}", one.config) for name, one in config.channels.items())
    yield "brain", config.brain
    yield from ((f"brains.{name}", one.config) for name, one in config.brains.items())
    yield "hearing", config.hearing
    yield "memory", config.memory
    yield from ((f"mcp.{name}", one) for name, one in config.mcp.items())
    yield from ((f"plugins.{name}", one) for name, one in config.plugin_options.items())


def _in_clear(table: Any) -> str:
    """The key of a table that has a secret sent without encryption; empty when none has."""
    if not any(one.metadata.get("secret") and getattr(table, one.name) for one in fields(table)):
        return ""
    values = {one.name: getattr(table, one.name) for one in fields(table) if not one.metadata.get("secret")}
    for name, value in values.items():
        parts = urlsplit(value) if isinstance(value, str) and "://" in value else None
        if parts is not None and parts.scheme in PLAIN and not is_home(parts.hostname or ""):
            return f"{name} = '{parts.scheme}://{parts.hostname}…'"
    if values.get("tls") is False and not is_home(str(values.get("host", ""))):
        return "tls = false"
    return ""


def _encryption(subject: Subject) -> Iterator[Finding]:
    if subject.config.bot.encryption:
        return
    if is_begun(subject.home):
        yield wrong(
            "The data folder is encrypted, and [bot] encryption does not say where its key is. Write env:NAME, "
            "file:PATH or keyring:SERVICE/USER there."
        )
    else:
        yield advice(
            "What is said lies on the disk in clear text. To encrypt it: roost encryption new-key, keep the key, and "
            "say where it is in [bot] encryption."
        )


# What leaves


def _remote(subject: Subject) -> Iterator[Finding]:
    privacy, away = subject.config.privacy, _elsewhere(subject)
    if not away:
        return
    listed = ", ".join(away)
    if privacy.remote == "allow":
        yield wrong(
            f"{listed}: on another machine, and [privacy] remote = 'allow' sends all that is said there. "
            'Write "redact" or "never", and allow single places in [privacy.places].'
        )
    rules = {"places": privacy.places, "people": privacy.people}
    for kind, table in rules.items():
        if names := [name for name, one in table.items() if one.remote == "allow" and privacy.remote != "allow"]:
            yield advice(f"{listed}: on another machine, and [privacy.{kind}] sends it all of {_some(names)}.")


def _elsewhere(subject: Subject) -> list[str]:
    """The tables whose brain, or ear, is somebody else's machine."""
    config = subject.config
    entries = {"brain": (config.brain_class, config.brain)}
    entries |= {f"brains.{name}": (one.cls, one.config) for name, one in config.brains.items()}
    found = [f"[{name}]" for name, (cls, table) in entries.items() if cls(table, subject.home).remote]
    return found + (["[hearing]"] if config.hearing_class(config.hearing, subject.home).remote else [])


def _strict(subject: Subject) -> Iterator[Finding]:
    if not subject.config.privacy.strict:
        yield advice(
            "[privacy] strict is false: plugins may connect to wherever they like. With strict = true only hosts that "
            "bot.toml names are reached; `roost privacy report` shows which others that would be."
        )


# What is done on this machine


def _tools(subject: Subject) -> Iterator[Finding]:
    config, everybody = subject.config, any(one.direct == "open" for _, one in _access(subject.config.access))
    for name in config.tools.allow:
        one = subject.registry.tools.get(name)
        if one is None or one.standard or name in config.tools.deny:
            continue
        limited = name in config.tools.only or one.role in ("admin", "owner")
        if limited:
            continue
        say, who = (wrong, "anybody at all") if everybody else (advice, "everybody who is let in")
        yield say(
            f"[tools] allow has '{name}', which touches the machine or leaves it, and {who} can have it called. "
            f'Say who may, in [tools]: only = {{ {name} = ["owner"] }}.'
        )


def _servers(subject: Subject) -> Iterator[Finding]:
    for name, one in subject.config.mcp.items():
        runs = f"runs '{_program(one)}' with all that you may do yourself" if one.command else "calls another machine"
        if one.role in ("guest", "person") and not one.allow:
            yield wrong(
                f"[mcp.{name}] {runs}, and all its tools are called for every {one.role}. "
                'Write role = "owner", or name the few tools that others may have in allow.'
            )
        elif one.command:
            yield advice(f"[mcp.{name}] {runs}. See that you trust it, and that allow names only what you use.")
        if one.trusted:
            yield advice(
                f"[mcp.{name}] trusted = true: what it answers may steer the brain into calling other tools. Take it "
                "out unless nobody else's text, such as mail or pages, comes through it."
            )


def _program(one: McpTable) -> str:
    """The program alone: its arguments may have secrets in them."""
    try:
        return (shlex.split(one.command) or [""])[0]
    except ValueError:
        return one.command.partition(" ")[0]


def _plugins(subject: Subject) -> Iterator[Finding]:
    for one in subject.registry.failures:
        yield wrong(f"The plugin '{one.plugin}' is left out, and what it should guard is not guarded: {one.reason}")


# Files


def _files(subject: Subject) -> Iterator[Finding]:
    home, config = subject.home, subject.config
    if is_open(home):
        yield wrong(f"Others on this machine can look into the data folder '{home}'. Say: chmod 700 '{home}'")
        readable = [path for path in sorted(home.rglob("*")) if path.is_file() and is_open(path, 0o044)]
        if readable:
            listed = _some([str(path.relative_to(home)) for path in readable])
            yield wrong(f"Others can read files in it: {listed}. Say: chmod -R go-rwx '{home}'")
    for path in (config.path, config.path.resolve().parent, config.plugin_folder):
        if is_open(path, 0o002):
            yield wrong(
                f"Everybody on this machine can change '{path}', and with it what the bot does. Say: chmod o-w '{path}'"
            )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(f"'{name}'" for name in names[:SHOWN]) + more


CHECKS: Mapping[str, Callable[[Subject], Iterator[Finding]]] = {
    "Strangers are not answered": _strangers,
    "Groups are answered only where somebody known asks": _groups,
    "The bot has an owner, or no way in but this machine": _owner,
    "People are let in by ids that do not change": _names,
    "Nobody is trusted whose id others can forge": _forgers,
    "The web face is guarded": _web,
    "Webhooks are signed": _webhooks,
    "Secrets are for you alone to read": _secrets,
    "What is said is encrypted on the disk": _encryption,
    "Nothing private goes to brains on other machines as it is": _remote,
    "Only what bot.toml names is connected to": _strict,
    "No tool that touches the machine is on for everybody": _tools,
    "No MCP server needs a thought": _servers,
    "Every plugin is loaded": _plugins,
    "Files are closed to others on this machine": _files,
}
