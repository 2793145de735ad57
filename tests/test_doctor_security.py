"""`roost doctor --security`: each weakness is found, named with its cure, and not found where there is none."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner

from roost.cipher import begin
from roost.cli import main
from roost.config import load
from roost.contracts import Route, unsigned
from roost.registry import Registry
from roost.schema import connect
from roost.security import CHECKS, Finding, Subject, weaknesses
from roost.testing import StageChannel
from roost.tools import tool
from roost.web import people

OWNED = '[bot]\nowner = "talky:1"\nencryption = "env:ROOST_KEY"\n[privacy]\nstrict = true\n'
CLOSED = 0o600
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such bits")


async def answer(request: web.Request) -> web.StreamResponse:
    return web.Response()


class Hooked(StageChannel):
    """A channel whose webhook is verified by what the test says."""

    verify: Any = unsigned
    method = "POST"

    def routes(self) -> tuple[Route, ...]:
        return (Route(self.method, "/hook", answer, type(self).verify),)


class Loose(StageChannel):
    """A channel that proves no id of somebody called Eve, and where all others can be forged."""

    forgeable = "anybody can write there"

    @staticmethod
    def unproven(id: str, config: Any) -> str:
        return "nothing proves it" if id == "eve" else ""


class Plugin:
    """A tool that is off until it is allowed."""

    def __init__(self) -> None:
        @tool(standard=False)
        def shell(line: str) -> str:
            """Run a command."""
            return line

        @tool(standard=False, role="owner")
        def shutdown() -> str:
            """Stop the machine."""
            return ""

        self.tools = (shell, shutdown)
        self.shell, self.shutdown = self.tools


class Ground:
    """A folder with a configuration that has no weakness, until `text` brings one in."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir(mode=0o700)
        (folder / "plugins").mkdir(mode=0o700)
        self.path = folder / "bot.toml"
        self.registry = Registry()
        self.registry.load()
        self.registry.channels.always.clear()
        self.registry.channels.put("talky", StageChannel)
        self.registry.channels.put("hooked", Hooked)
        self.registry.channels.put("loose", Loose)
        self.registry.add(Plugin(), "plugin")

    def look(self, text: str = "", mode: int = CLOSED) -> list[Finding]:
        self.path.write_text(text if "[bot]" in text else OWNED + text, encoding="utf-8")
        self.path.chmod(mode)
        config = load(self.path, self.registry, {})
        return list(weaknesses(Subject(config, self.registry, self.home)))

    def wrong(self, text: str = "", **more: Any) -> list[str]:
        return [one.text for one in self.look(text, **more) if not one.ok and not one.advice]

    def advised(self, text: str = "", **more: Any) -> list[str]:
        return [one.text for one in self.look(text, **more) if one.advice]


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def test_a_careful_configuration_has_nothing_to_mend(ground: Ground) -> None:
    found = ground.look("[channels.talky]\n")
    assert [one for one in found if not one.ok] == []
    assert [one.text for one in found] == [f"{name}." for name in CHECKS]


WRONG = [
    ('[access]\ndirect = "open"', "[access] direct = 'open': whoever finds the bot can talk to it"),
    ('[access.channels.talky]\ndirect = "open"', "[access.channels.talky] direct = 'open'"),
    ('[access.places."talky:5"]\ndirect = "open"', "[access.places.\"talky:5\"] direct = 'open'"),
    ('[access]\ngroups = "open"', "[access] groups = 'open': everybody in any group"),
    ('[access.channels.talky]\ngroups = "open"', "[access.channels.talky] groups = 'open'"),
    ('[access]\npeople = ["talky:@ann"]', "'talky:@ann' looks like a name"),
    ('[web]\nhost = "0.0.0.0"', "[web] host = '0.0.0.0' lets other machines reach the web face, and there is no token"),
    ('[web]\npublic_url = "https://a.example"', "[web] public_url lets other machines reach the web face"),
    ('[web]\nhost = "0.0.0.0"\ntoken = "fifteen-letters"', "[web] token has 15 characters"),
    ('[web]\nhost = "0.0.0.0"\ntoken = "a-token-of-more-than-that"', "can be read on the way. Put a proxy with TLS"),
    ('[web]\npublic_url = "http://a.example"\ntoken = "a-token-of-more-than-that"', "can be read on the way"),
    ("[channels.hooked]", "[channels.hooked]: its webhook '/hook' takes what is not signed."),
    (
        '[privacy]\nremote = "allow"\n[brain]\nuse = "openai"\nbase_url = "https://api.example.com/v1"',
        "remote = 'allow'",
    ),
    ('[mcp.x]\ncommand = "bash -c tell"\nrole = "guest"', "[mcp.x] runs 'bash' with all that you may do yourself, and"),
    ('[mcp.x]\nurl = "https://x.example"\nrole = "person"', "[mcp.x] calls another machine, and all its tools"),
    (
        '[access]\ndirect = "open"\n[tools]\nallow = ["shell"]',
        "'shell', which touches the machine or leaves it, and anybody",
    ),
]


@pytest.mark.parametrize(("text", "sentence"), WRONG)
def test_a_weakness_is_named(text: str, sentence: str, ground: Ground) -> None:
    prefix = OWNED.replace("[privacy]\nstrict = true\n", "") if "[privacy]" in text else OWNED
    found = ground.wrong(prefix + text)
    assert any(sentence in one for one in found), found


ADVICE = [
    (
        "[tools]\nallow = ['shell']",
        "everybody who is let in can have it called. Say who may, in [tools]: only = { shell",
    ),
    (
        '[mcp.x]\ncommand = "bash -c tell"',
        "[mcp.x] runs 'bash' with all that you may do yourself. See that you trust it",
    ),
    ('[mcp.x]\nurl = "https://x.example"\ntrusted = true', "[mcp.x] trusted = true"),
    ('[mcp.x]\nurl = "http://x.example"\nheaders = { A = "b-secret" }', "[mcp.x] url = 'http://x.example…': what goes"),
    ('[web]\ntoken = "short"', "[web] token has 5 characters"),
    (
        '[channels.irc]\nhost = "irc.example"\nnick = "r"\ntls = false\npassword = "hunter2"',
        "[channels.irc] tls = false",
    ),
]


@pytest.mark.parametrize(("text", "sentence"), ADVICE)
def test_what_may_be_meant_is_advice(text: str, sentence: str, ground: Ground) -> None:
    assert any(sentence in one for one in ground.advised(text)), ground.advised(text)
    assert ground.wrong(text) == []


FINE = [
    '[access]\ndirect = "allowlist"\ngroups = "closed"\npeople = ["talky:42"]',
    '[web]\nenabled = false\nhost = "0.0.0.0"',
    '[web]\ntoken = "a-token-of-more-than-that"\npublic_url = "https://a.example"\ntrusted_proxies = ["127.0.0.1"]',
    '[tools]\nallow = ["shell"]\nonly = { shell = ["owner"] }',
    '[tools]\nallow = ["shell"]\ndeny = ["shell"]',
    '[tools]\nallow = ["shutdown"]',
    '[brain]\nuse = "openai"\nbase_url = "https://api.example.com/v1"',
    '[brain]\nuse = "openai"\nbase_url = "http://127.0.0.1:80/v1"\napi_key = "abcdef"',
    '[mcp.x]\nurl = "https://x.example"\nheaders = { A = "b-secret" }',
    '[channels.irc]\nhost = "irc.example"\nnick = "r"\npassword = "hunter2"',
]


@pytest.mark.parametrize("text", FINE)
def test_what_is_guarded_is_not_complained_of(text: str, ground: Ground) -> None:
    assert [one for one in ground.look(text) if not one.ok] == []


def test_no_secret_and_no_argument_of_a_program_is_in_the_report(ground: Ground) -> None:
    text = '[web]\ntoken = "short-1"\nhost = "0.0.0.0"\n[mcp.x]\ncommand = "bash -c hush"\nenv = { A = "env-secret" }'
    said = str(ground.look(text, mode=0o644))
    assert not any(one in said for one in ("short-1", "hush", "env-secret"))


@pytest.mark.parametrize(
    ("verify", "method", "is_open"),
    [
        (unsigned, "POST", True),
        (unsigned, "GET", False),
        (lambda request, body: True, "POST", True),
        (lambda request, body: request.headers["X-Signature"] == "right", "POST", False),
        (lambda request, body: False, "POST", False),
        (people, "POST", False),
    ],
)
def test_a_webhook_is_asked_whether_it_takes_what_nobody_signed(
    verify: Any, method: str, is_open: bool, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hooked, "verify", staticmethod(verify))
    monkeypatch.setattr(Hooked, "method", method)
    assert any("/hook" in one for one in ground.wrong("[channels.hooked]\n")) is is_open


def test_the_webhooks_that_are_shipped_are_signed(ground: Ground) -> None:
    text = (
        '[channels.webhook]\nsecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"\nurl = "https://a.example/"\n'
        '[web]\npublic_url = "https://a.example"\ntoken = "a-token-of-more-than-that"\n'
        '[channels.telegram]\ntoken = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"\npublic_url = "https://a.example"'
    )
    assert ground.wrong(text) == []


LOOSE = "\n[channels.loose]\n"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (OWNED.replace("talky:1", "loose:eve") + LOOSE, "[bot] owner"),
        (OWNED + '[access]\npeople = ["loose:eve"]' + LOOSE, "[access] people"),
        (OWNED + '[access.channels.loose]\npeople = ["loose:eve"]' + LOOSE, "[access.channels.loose] people"),
    ],
    ids=["owner", "people", "people of a channel"],
)
def test_an_id_that_nothing_proves_is_named_where_it_is_trusted(text: str, where: str, ground: Ground) -> None:
    assert [one for one in ground.wrong(text) if "nothing proves it" in one and one.startswith(where)]


@pytest.mark.parametrize("role", ["owner", "admin"])
def test_a_role_of_somebody_who_can_be_forged_is_named(role: str, ground: Ground) -> None:
    with closing(connect(ground.home / "journal.db")) as db:
        sql = "INSERT INTO person (id, role, since) VALUES (?, ?, 0)"
        db.executemany(sql, [("loose:eve", role), ("loose:bob", role), ("loose:ann", "person"), ("talky:2", role)])
        found = ground.look(OWNED + LOOSE)
    said = [(one.advice, one.text) for one in found if not one.ok and "loose:" in one.text]
    assert [advice for advice, _ in said] == [False, True]
    assert f"the role '{role}': 'loose:eve'" in said[0][1] and "'loose:bob' can be forged" in said[1][1]


def test_a_list_of_people_who_can_be_forged_is_advised_against_once(ground: Ground) -> None:
    text = OWNED + '[access]\npeople = ["loose:ann", "loose:bob"]' + LOOSE
    assert len([one for one in ground.advised(text) if "ids of 'loose'" in one]) == 1
    assert ground.wrong(text) == []


def test_a_bot_that_nobody_owns_is_named(ground: Ground) -> None:
    text = '[bot]\nname = "x"\n[channels.talky]'
    assert any("has no owner yet" in one for one in ground.wrong(text))
    with closing(connect(ground.home / "journal.db")) as db:
        assert any("has no owner yet" in one for one in ground.wrong(text))
        db.execute("INSERT INTO person (id, role, since) VALUES ('talky:1', 'owner', 0)")
    assert ground.wrong(text) == []
    assert not any("owner" in one for one in ground.wrong('[bot]\nname = "x"')), "there is no way in"


def test_a_journal_that_cannot_be_read_holds_nothing_up(ground: Ground) -> None:
    (ground.home / "journal.db").write_bytes(b"no database" * 1000)
    assert any("has no owner yet" in one for one in ground.wrong('[bot]\nname = "x"\n[channels.talky]'))


def test_looking_writes_nothing(ground: Ground) -> None:
    with closing(connect(ground.home / "journal.db")):
        pass
    before = {path: path.read_bytes() for path in ground.home.rglob("*") if path.is_file()}
    ground.look("[channels.hooked]\n[channels.talky]\n")
    assert before == {path: path.read_bytes() for path in ground.home.rglob("*") if path.is_file()}


def test_a_folder_in_clear_text_is_advised_against_and_a_lost_key_is_wrong(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    clear = '[bot]\nowner = "talky:1"\n[privacy]\nstrict = true'
    assert any("in clear text" in one for one in ground.advised(clear)) and ground.wrong(clear) == []
    monkeypatch.setenv("ROOST_KEY", "correct horse battery staple")
    begin(ground.home, "env:ROOST_KEY")
    assert any("is encrypted" in one for one in ground.wrong(clear))


def test_without_strict_plugins_may_connect_anywhere(ground: Ground) -> None:
    text = '[bot]\nowner = "talky:1"\nencryption = "env:ROOST_KEY"'
    assert any("[privacy] strict is false" in one for one in ground.advised(text))


def test_a_place_that_tells_all_to_a_remote_brain_is_named(ground: Ground) -> None:
    brain = '[brain]\nuse = "openai"\nbase_url = "https://api.example.com/v1"\n'
    places = '[privacy.places."talky:5"]\nremote = "allow"\n[privacy.people."talky:6"]\nremote = "allow"\n'
    found = ground.advised(brain + places)
    assert any("[privacy.places] sends it all of 'talky:5'" in one for one in found)
    assert any("[privacy.people] sends it all of 'talky:6'" in one for one in found)
    assert ground.advised(places) == [], "the brain is at home"


def test_a_plugin_that_failed_is_named(ground: Ground) -> None:
    ground.registry.failed("guard", ValueError("no such thing"))
    assert any("'guard' is left out, and what it should guard is not guarded" in one for one in ground.wrong())


@posix
def test_files_that_others_can_read_or_change_are_named(ground: Ground) -> None:
    (ground.home / "journal.db").write_bytes(b"")
    (ground.home / "journal.db").chmod(0o644)
    assert ground.wrong() == [], "nobody gets into the folder"
    ground.home.chmod(0o755)
    found = ground.wrong()
    assert any(f"chmod 700 '{ground.home}'" in one for one in found)
    assert any("Others can read files in it: 'journal.db'" in one for one in found)
    ground.home.chmod(0o700)
    for path in (ground.path.parent, ground.path.parent / "plugins"):
        path.chmod(0o777)
        assert any(f"chmod o-w '{path}'" in one for one in ground.wrong())
        path.chmod(0o700)
    assert any(f"chmod o-w '{ground.path}'" in one for one in ground.wrong(mode=0o606))


@posix
def test_a_readable_bot_toml_is_wrong_only_with_secrets_in_it(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "a-token-of-more-than-that")
    assert ground.wrong('[web]\ntoken = "env:TOKEN"', mode=0o644) == []
    [found] = ground.wrong('[web]\ntoken = "a-token-of-more-than-that"', mode=0o644)
    assert "([web] token). Say: chmod 600" in found


@pytest.mark.parametrize(
    ("text", "code"),
    [("", 0), ('[access]\ndirect = "open"', 1), ("[web]\ntoken = 'env:NOT_SET'", 1), ("[channels.telegram]\n", 1)],
)
def test_the_exit_status_says_whether_something_is_wrong(
    text: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOST_HOME", str(tmp_path / "home"))
    path = tmp_path / "bot.toml"
    path.write_text(text)
    path.chmod(CLOSED)
    done = CliRunner().invoke(main, ["doctor", "--security", "--config", str(path)])
    assert done.exit_code == code, done.output
    assert ("-> " in done.output) is bool(code)
    assert text or "?  What is said lies on the disk in clear text." in done.output
