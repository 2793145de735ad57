"""Secrets: where they come from, what is no secret, and that none is ever shown."""

from __future__ import annotations

import base64
import html
import json
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, quote_plus

import click
import keyring
import pytest
from aiohttp import ClientSession
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from keyring.backend import KeyringBackend

from roost import logs
from roost.cli import main
from roost.commands import command
from roost.config import Config, load, secrets
from roost.contracts import ChannelConfig, Route, unsigned
from roost.errors import ConfigError, RoostError, Undeliverable
from roost.keys import key
from roost.letters import dead
from roost.references import early, entry_of, exposures, is_placeholder, leave_secret, read_secret
from roost.registry import Registry
from roost.secret_forms import HIDDEN, finder, without
from roost.testing import Stage, StageChannel

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such bits")
SECRET = 'Tr0ub4dor&3 +/="\\ß'


@dataclass(frozen=True, slots=True, kw_only=True)
class TalkyConfig(ChannelConfig):
    token: str = key(help="Get one from the platform.", secret=True)
    second: str = key("", help="Another.", secret=True)
    rooms: dict[str, str] = key(factory=dict, help="Passwords of rooms.", secret=True)
    name: str = key("", help="What it is called.")


class Talky(StageChannel):
    Config = TalkyConfig


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.load()
    registry.channels.always.clear()
    registry.channels.put("talky", Talky)
    return registry


@pytest.fixture(autouse=True)
def nothing_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs._redaction, "secrets", ())


def read(folder: Path, registry: Registry, text: str, environment: dict[str, str] | None = None) -> Config:
    path = folder / "bot.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, registry, environment or {})


def talky(config: Config) -> TalkyConfig:
    found = config.channels["talky"].config
    assert isinstance(found, TalkyConfig), config.problems
    return found


# Where they come from


def test_a_secret_comes_from_where_bot_toml_says(tmp_path: Path, registry: Registry, monkeypatch) -> None:
    monkeypatch.setenv("MY_TOKEN", SECRET)
    file = tmp_path / "second"
    file.write_text(f"{SECRET}2\n", encoding="utf-8")
    text = (
        f"[channels.talky]\ntoken = 'env:MY_TOKEN'\nsecond = 'file:{file}'\nrooms = {{ a = 'env:MY_TOKEN', b = 'B' }}"
    )
    config = read(tmp_path, registry, text)
    found = talky(config)
    assert (found.token, found.second) == (SECRET, f"{SECRET}2")
    assert found.rooms == {"a": SECRET, "b": "B"}
    assert {SECRET, f"{SECRET}2"} <= secrets(config)


def test_a_secret_comes_from_the_keyring(tmp_path: Path, registry: Registry) -> None:
    class Drawer(KeyringBackend):
        priority = 1  # type: ignore[assignment]

        def get_password(self, service: str, username: str) -> str | None:
            return {("roost", "talky"): "from the drawer"}.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            raise NotImplementedError

    before = keyring.get_keyring()
    keyring.set_keyring(Drawer())
    try:
        assert talky(read(tmp_path, registry, "[channels.talky]\ntoken = 'keyring:roost/talky'")).token == (
            "from the drawer"
        )
        config = read(tmp_path, registry, "[channels.talky]\ntoken = 'keyring:roost/other'")
        assert "Say: keyring set roost other." in config.problems[0]
    finally:
        keyring.set_keyring(before)


@pytest.mark.parametrize(
    ("entry", "parts"), [("a/b", ("a", "b")), ("https://a/b", ("https://a", "b")), ("a", ("a", "key"))]
)
def test_an_entry_of_the_keyring_has_a_service_and_a_user(entry: str, parts: tuple[str, str]) -> None:
    assert entry_of(entry) == parts


def test_the_environment_may_refer_to_a_file_too(tmp_path: Path, registry: Registry) -> None:
    (tmp_path / "token").write_text("from a file")
    given_ = {"ROOST_CHANNELS_TALKY_TOKEN": f"file:{tmp_path / 'token'}"}
    assert talky(read(tmp_path, registry, "", given_)).token == "from a file"


def test_a_key_that_is_no_secret_is_taken_as_it_is(tmp_path: Path, registry: Registry) -> None:
    config = read(tmp_path, registry, "[channels.talky]\ntoken = 'abc'\nname = 'env:HOME'")
    assert talky(config).name == "env:HOME"


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("env:NOT_SET", "[channels.talky] token takes env:NOT_SET for its value. In the environment, NOT_SET is not"),
        ("env:", "'env:' does not say where the secret is. Write env:NAME, file:PATH or keyring:SERVICE/USER."),
        ("file:relative", "'relative', has to begin at the root or with '~'."),
        ("file:{here}/missing", "cannot be read: No such file"),
        ("file:{here}", "is to hold the secret, and is no file."),
        ("file:{here}/binary", "is no text in UTF-8."),
        ("file:{here}/empty", "token (from {here}/empty) is empty."),
        ("file:{here}/big", "has more than 64 KB."),
        ("file:{here}/example", "has the text of an example"),
    ],
)
def test_a_secret_that_cannot_be_had_gets_a_sentence(
    source: str, sentence: str, tmp_path: Path, registry: Registry
) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xfa")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "big").write_text("x" * 70_000)
    (tmp_path / "example").write_text("your-token-here\n")
    config = read(tmp_path, registry, f"[channels.talky]\ntoken = '{source.format(here=tmp_path)}'")
    [problem] = config.problems
    assert sentence.format(here=tmp_path) in problem and problem.startswith("bot.toml: [channels.talky] token")
    assert "talky" not in config.channels


@posix
def test_a_pipe_in_place_of_a_file_holds_nothing_up(tmp_path: Path, registry: Registry) -> None:
    os.mkfifo(tmp_path / "pipe")
    config = read(tmp_path, registry, f"[channels.talky]\ntoken = 'file:{tmp_path / 'pipe'}'")
    assert "is no file" in config.problems[0]


def test_a_table_that_is_off_needs_no_secret(tmp_path: Path, registry: Registry) -> None:
    off = "[channels.talky]\nenabled = false\ntoken = 'env:NOT_SET'\nsecond = 'a literal one'"
    config = read(tmp_path, registry, off)
    assert config.problems == () and "talky" not in config.channels
    assert "a literal one" in secrets(config)


def test_a_secret_of_the_web_face_that_is_missing_stops_the_start(tmp_path: Path, registry: Registry) -> None:
    with pytest.raises(ConfigError, match=r"\[web\] token takes env:NOT_SET"):
        read(tmp_path, registry, "[web]\ntoken = 'env:NOT_SET'")


# What is none


PLACEHOLDERS = (
    "123456:ABC...",
    "123456:ABC-DEF...",
    "123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11",
    "changeme",
    "CHANGE-ME",
    "your-token-here",
    "YOUR_BOT_TOKEN",
    "xoxb-your-token",
    "xxx",
    "xoxb-xxxxxxxx",
    "sk-XXXX",
    "<token>",
    "<your token here>",
    "${TOKEN}",
    "{{ token }}",
    "…",
    "nsec1…",
    "****",
    "TODO",
    "paste-your-key-here",
    "replace me",
)


@pytest.mark.parametrize("value", PLACEHOLDERS)
def test_the_text_of_an_example_is_refused(value: str, tmp_path: Path, registry: Registry) -> None:
    config = read(tmp_path, registry, f"[channels.talky]\ntoken = {json.dumps(value)}")
    [problem] = config.problems
    assert "[channels.talky] token has the text of an example in place of the real one." in problem
    assert value == "…" or value not in problem


@pytest.mark.parametrize("value", ["", "  "])
def test_a_needed_secret_may_not_be_empty(value: str, tmp_path: Path, registry: Registry) -> None:
    assert "token is empty" in read(tmp_path, registry, f"[channels.talky]\ntoken = '{value}'").problems[0]
    assert talky(read(tmp_path, registry, "[channels.talky]\ntoken = 'abc'\nsecond = ''")).second == ""


@pytest.mark.parametrize(
    "value",
    [
        "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw",
        "xoxb-123-456-abc",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "$tr0ng_pass",
        "correct horse battery staple",
        "hunter2",
        "p",
        "your mother was a hamster",
        "there",
        "atmosphere",
        '{"a": 1}',
        "exchange-met",
        "axxxb",
    ],
)
def test_what_may_be_a_secret_is_none(value: str) -> None:
    assert not is_placeholder(value)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=400))
def test_any_text_is_looked_at_in_no_time_and_refused_or_kept(value: str) -> None:
    try:
        found, _ = read_secret("[a] b", {"c": value}, "", False)
    except ConfigError as error:
        assert len(value) < 6 or value not in str(error)
    else:
        assert found["c"] == value
    assert leave_secret("[a] b", value, "", True)[0] == value


# Who else can read them


@posix
def test_files_with_secrets_that_others_can_read_are_named(tmp_path: Path, registry: Registry) -> None:
    file = tmp_path / "token"
    file.write_text("abcdef")
    file.chmod(0o640)
    text = f"[channels.talky]\ntoken = 'file:{file}'\nsecond = 'literal one'"
    config = read(tmp_path, registry, text)
    config.path.chmod(0o644)
    found = list(exposures(config.path, config.origins))
    assert len(found) == 2 and "literal one" not in str(found)
    assert "[channels.talky] second" in found[0] and f"chmod 600 '{config.path}'" in found[0]
    assert f"chmod 600 '{file}'" in found[1]
    for path in (config.path, file):
        path.chmod(0o600)
    assert list(exposures(config.path, config.origins)) == []


@posix
def test_a_file_without_secrets_may_be_read_by_all(tmp_path: Path, registry: Registry, monkeypatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "abcdef")
    config = read(tmp_path, registry, "[channels.talky]\ntoken = 'env:MY_TOKEN'")
    config.path.chmod(0o644)
    assert list(exposures(config.path, config.origins)) == []


@posix
def test_the_command_line_warns_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_HOME", str(tmp_path / "home"))
    path = tmp_path / "bot.toml"
    path.write_text("[web]\ntoken = 'a-long-secret-of-mine'\n")
    path.chmod(0o644)
    said = CliRunner().invoke(main, ["config", "check", "--config", str(path)]).output
    assert f"chmod 600 '{path}'" in said and "a-long-secret" not in said
    path.chmod(0o600)
    assert "chmod" not in CliRunner().invoke(main, ["config", "check", "--config", str(path)]).output


# That none is shown


def written(secret: str) -> list[str]:
    """The ways in which a secret gets into texts."""
    raw = secret.encode()
    return [
        f"x{secret}y" if len(secret) > 5 else f"'{secret}'",
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        quote(quote(secret, safe=""), safe=""),
        json.dumps(secret),
        json.dumps(secret, ensure_ascii=False),
        repr(secret),
        repr(raw),
        html.escape(secret),
        raw.hex(),
        raw.hex().upper(),
        f"https://example.org/bot{quote(secret, safe=':')}/getMe?token={quote_plus(secret)}#",
    ]


def in_base64(secret: bytes, before: bytes, after: bytes) -> list[str]:
    whole = before + secret + after
    found = [base64.b64encode(whole).decode(), base64.urlsafe_b64encode(whole).decode()]
    return found + [one.rstrip("=") for one in found]


def core(secret: bytes, before: int) -> str:
    """The characters of base64 that are the secret's alone, reckoned from the bits of each character."""
    text = base64.b64encode(bytes(before) + secret + b"\0\0").decode()
    inside = [n for n in range(len(text)) if 6 * n >= 8 * before and 6 * n + 6 <= 8 * (before + len(secret))]
    return text[inside[0] : inside[-1] + 1]


SECRETS = st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=0x24F, exclude_characters="\x7f"), min_size=8)


@given(SECRETS)
def test_a_secret_is_hidden_however_it_is_written(secret: str) -> None:
    found = finder((secret,))
    for text in written(secret):
        assert secret not in without(text, found)
        assert HIDDEN in without(text, found), text


@given(SECRETS, st.binary(max_size=7), st.binary(max_size=7))
def test_a_secret_is_hidden_in_base64_wherever_it_stands_there(secret: str, before: bytes, after: bytes) -> None:
    found, raw = finder((secret,)), secret.encode()
    sure = core(raw, len(before) % 3)
    for text in in_base64(raw, before, after):
        assert sure not in without(text, found).replace("-", "+").replace("_", "/")
        assert HIDDEN in without(text, found)


def test_a_short_secret_is_hidden_where_it_stands_alone() -> None:
    found = finder(("ab1",))
    assert without("the cab12 and ab1, 'ab1'", found) == f"the cab12 and {HIDDEN}, '{HIDDEN}'"


def test_each_line_of_a_long_secret_is_hidden() -> None:
    lines = [f"{n:02d}MIIEvQIBADANBgkqhkiG9w0BAQEFAASC" for n in range(60)]
    found = finder(("\n".join(["-----BEGIN PRIVATE KEY-----", *lines, "-----END PRIVATE KEY-----"]),))
    assert without(f"the line {lines[7]} of it", found) == f"the line {HIDDEN} of it"


def test_the_longest_secret_goes_first_so_that_no_rest_stays() -> None:
    logs.hide(["secret-one", "secret-one-and-more", "", "  "])
    assert logs.redact("a secret-one-and-more b") == f"a {HIDDEN} b"
    assert logs.redact("  ") == "  "


def test_a_table_of_the_configuration_does_not_print_its_secrets(tmp_path: Path, registry: Registry) -> None:
    config = read(tmp_path, registry, "[channels.talky]\ntoken = 'tok-abcdef'\nrooms = { a = 'room-abcdef' }")
    assert "tok-abcdef" not in repr(config) and "room-abcdef" not in repr(config)
    assert "name=''" in repr(talky(config))


@pytest.mark.parametrize(
    "text", ["[bot]\n{} = 'canary-7'", "[channels.talky]\n{} = 'canary-7'", "[tools]\n{} = ['canary-7']"]
)
@pytest.mark.parametrize("name", ["token", "tokn_", "api_key", "password"])
def test_a_secret_in_the_wrong_place_is_not_shown_in_the_complaint(
    text: str, name: str, tmp_path: Path, registry: Registry
) -> None:
    if name == "tokn_" and "talky" not in text:
        return  # nothing tells that it is a secret
    try:
        said = str(read(tmp_path, registry, text.format(name)).problems)
    except ConfigError as error:
        said = str(error)
    assert "canary-7" not in said


def test_a_secret_used_twice_is_hidden_where_it_is_not_expected(tmp_path: Path, registry: Registry) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, registry, "[web]\ntoken = 'canary-8-abc'\n[bot]\nnaem = 'http://u:canary-8-abc@x'")
    assert "canary-8-abc" not in str(caught.value) and HIDDEN in str(caught.value)


def test_tracebacks_in_the_log_are_without_secrets() -> None:
    logs.hide([SECRET])
    try:
        raise ValueError(f"refused: {SECRET}")
    except ValueError:
        record = logging.LogRecord("x", 40, __file__, 1, "it fell: %r", (SECRET,), sys.exc_info())
    said = logs._redaction.format(record)
    assert SECRET not in said and repr(SECRET)[1:-1] not in said and "Traceback" in said


def test_what_is_printed_is_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with logs.clean():
        logs.hide([SECRET])
        print("a", SECRET, [SECRET])
        print(SECRET, file=sys.stderr)
        click.echo(f"b {quote(SECRET)}")
        sys.stdout.writelines([SECRET, "\n"])
        assert sys.stdout.encoding and sys.stdout.fileno and sys.stdout.buffer
    assert (sys.stdout, sys.stderr) == before
    out, err = capsys.readouterr()
    assert SECRET not in out + err and quote(SECRET) not in out and out.count(HIDDEN) == 4 and err.count(HIDDEN) == 1
    assert logs.redact(SECRET) == SECRET, "another command begins with nothing hidden"


def test_the_error_that_ends_a_process_is_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), logs.clean():
        logs.hide([SECRET])
        raise KeyError(SECRET)
    try:
        raise KeyError(SECRET)
    except KeyError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    err = capsys.readouterr().err
    assert "Traceback" in err and "KeyError" in err and HIDDEN in err and repr(SECRET)[1:-1] not in err


def test_what_looks_like_a_secret_is_known_before_anything_is_read(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PLUGIN_KEY", "from-the-env")
    monkeypatch.setenv("ROOST_CHANNELS_TALKY_TOKEN", "from-an-override")
    path = tmp_path / "bot.toml"
    path.write_text("[a]\ntoken = 'written-here'\nname = 'not-hidden'\n[[b]]\nx = 'env:PLUGIN_KEY'\npin = 'short'")
    assert {"written-here", "from-the-env", "from-an-override"} <= set(early(path)) and "not-hidden" not in early(path)
    path.write_text("no toml")
    assert "from-an-override" in early(path)
    assert "from-an-override" in early(tmp_path / "missing")


def test_a_plugin_that_fails_while_it_is_loaded_tells_no_secret(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("ROOST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LEAKY", "canary-env-7f3a")
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "leaky.py").write_text("import os\nraise ValueError(os.environ['LEAKY'])\n")
    path = tmp_path / "bot.toml"
    path.write_text("[web]\ntoken = 'env:LEAKY'\n")
    for words in (["plugins", "list"], ["config", "check"], ["doctor", "--security"]):
        said = CliRunner().invoke(main, [*words, "--config", str(path)])
        assert "canary-env" not in said.output and (words[0] == "config" or "leaky" in said.output)


# In conversations and on pages


async def test_an_error_notice_tells_no_secret(tmp_path: Path) -> None:
    @command
    def spill() -> str:
        """Fail."""
        raise RoostError("The platform says: bad token 'canary-notice-1'.")

    class Plugin:
        def __init__(self) -> None:
            self.spill = spill

    async with Stage(tmp_path, plugins=[Plugin()]) as stage:
        logs.hide(["canary-notice-1"])
        assert await stage.talk("/spill") == f"⚠️ The platform says: bad token '{HIDDEN}'."


async def test_a_letter_that_fails_tells_no_secret(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        logs.hide(["canary-letter-1"])
        stage.channel.fail = [Undeliverable("no: canary-letter-1")]
        await stage.talk("hello")
        [letter] = dead(stage.bot.home / "journal.db")
    assert letter.error == f"no: {HIDDEN}"


async def test_a_page_that_fails_tells_no_secret(tmp_path: Path) -> None:
    from aiohttp import web

    async def answer(request: web.Request) -> web.StreamResponse:
        raise web.HTTPBadGateway(text="upstream refused canary-page-1")

    class Paged(StageChannel):
        def routes(self) -> tuple[Route, ...]:
            return (Route("GET", "/paged", answer, unsigned),)

    async with Stage(tmp_path, channel=Paged, config="[web]\nport = 0\n") as stage:
        logs.hide(["canary-page-1"])
        assert stage.bot.web is not None
        async with ClientSession() as session, session.get(f"{stage.bot.web.address}/paged") as response:
            assert (response.status, await response.text()) == (502, f"upstream refused {HIDDEN}")
