"""With a key in bot.toml nothing that was said can be read in the data folder, and everything is there for the bot."""

from __future__ import annotations

import asyncio
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from roost import Event, Message, Person, Place, Reply, command, encryption, wishes
from roost import bot as bot_module
from roost.bot import Bot
from roost.cli import main
from roost.config import load
from roost.doctor import findings
from roost.encryption import TYPED, turn_off
from roost.errors import ConfigError, RoostError, StoreError, Undeliverable
from roost.memory.words import cut
from roost.run import run_chat
from roost.secret import new_key
from roost.testing import Stage
from roost.wishes import offer, wish

SEALED = '[bot]\nencryption = "env:ROOST_KEY"\n'
OTHER = '[bot]\nencryption = "env:ROOST_OTHER_KEY"\n'
SMALL = "[memory]\ncompact_keep = 4\n"

# One for each way into the folder.
SAID, ANSWERED, FACT, STATE = "Nußknacker", "Zuckerwürfel", "Erdnußallergie", "Kürbiskern"
DEAD, ERROR, UNSENT, REFUSED = "Mühlrad", "Schlüsselbund", "Spätzle", "Türschloß"
NAME, REACTED, OPEN, FOLDED, EDITED = "Schäfchen", "Daumenhöh", "Frühlingstag", "Käsekuchen", "Brötchen"
CANARIES = [SAID, ANSWERED, FACT, STATE, DEAD, NAME, REACTED, ERROR, OPEN, UNSENT, FOLDED, EDITED, REFUSED]


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_KEY", new_key())
    monkeypatch.setenv("ROOST_OTHER_KEY", new_key())


@command
def note(message: Message, what: str) -> str:
    """Keep something for later."""
    message.state["kept"] = what
    return "Kept."


@command
def kept(message: Message) -> str:
    """Tell what was kept."""
    return str(message.state.get("kept"))


def plugin() -> types.ModuleType:
    module = types.ModuleType("keeper")
    vars(module).update(note=note, kept=kept)
    return module


def stage(folder: Path, config: str = SEALED) -> Stage:
    return Stage(folder, plugins=[plugin()], config=config + SMALL, script=lambda said: f"{ANSWERED}: {said}")


def resting(folder: Path, config: str = SEALED) -> Bot:
    """A bot that is not started."""
    one = stage(folder, config)
    return Bot(load(one.path, one.registry, {}), one.registry, folder / "home")


async def fill(folder: Path, config: str = SEALED) -> None:
    """Leave one of everything behind: also a message without an answer, and a part that was not sent."""
    async with stage(folder, config) as one:
        await one.talk(f"{FOLDED} is what I like")
        for number in range(5):
            await one.talk(f"{SAID} number {number}")
        await one.talk(f"/remember {FACT}")
        await one.talk(f"/note {STATE}")
        await one.talk("/compact")
        await one.say(EDITED, id="1", edited=True)
        await one.receive(Event("reacted", Place("stage", "1"), Person("stage", "ann"), 1.0, "1", REACTED))
        await one.bot.journal.let_in("stage:ann", "owner", NAME)
        await one.quiet()
        one.channel.fail = [Undeliverable(ERROR)]
        await one.talk(DEAD)
    await leave_open(folder, config)


async def leave_open(folder: Path, config: str) -> None:
    """A message and a part that a bot accepted and wrote just before it died."""
    async with resting(folder, config).at_rest() as bot:
        await bot.journal.accept(Message("late", Place("stage", "1"), Person("stage", "ann", "Ann"), OPEN, 1.0))
        _, late = await bot.journal.post([(Place(name, "9"), Reply(UNSENT)) for name in ("stage", "gone")])
        await bot.journal.put_off(late, 1.0, REFUSED)


def forms(word: str) -> set[bytes]:
    """How a word may stand in a file."""
    told = (word, word.lower(), *cut(word))  # as an index has it too
    written = {json.dumps(form).strip('"').encode() for form in told}
    return written | {form.encode(code) for form in told for code in ("utf-8", "utf-16-le", "utf-16-be")}


def readable(folder: Path) -> set[str]:
    """The canaries that somebody without a key finds in the data folder, in files or in their names."""
    files = [path for path in (folder / "home").rglob("*") if path.is_file()]
    everything = b"".join(path.read_bytes() + path.name.encode() for path in files)
    return {word for word in CANARIES if any(form in everything for form in forms(word))}


def content(folder: Path) -> dict[str, bytes]:
    """Every file but the lock, which a start touches."""
    files = [path for path in (folder / "home").rglob("*") if path.is_file() and path.name != "roost.lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


async def check(folder: Path, config: str = SEALED) -> None:
    """Everything that `fill` left is there: the open message is answered, the unsent part sent."""
    async with stage(folder, config) as one:
        await one.bot.pipeline.lanes.idle()
        await one.bot.outbox.still()
        assert {reply.text for _, reply in one.channel.sent} == {f"{ANSWERED}: {OPEN}", UNSENT}
        assert await one.bot.journal.waiting() == {"gone": 1}
        texts = "\n".join(line.text for line in await one.bot.journal.history(Place("stage", "1"), 100))
        assert all(word in texts for word in (SAID, ANSWERED, OPEN, FOLDED))
        assert await one.talk("/facts", id="facts") == f"1. {FACT}"
        assert await one.talk("/kept") == STATE
        assert FOLDED in await one.talk(f"/recall {FOLDED}")
        letters = await one.talk("/letters show")
        assert ERROR in letters and DEAD in letters
        assert not await one.receive(one.message("again", id="late")), "a second delivery is still known"
        event = Event("reacted", Place("stage", "1"), Person("stage", "ann"), 1.0, "1", REACTED)
        assert not await one.receive(event)
        prompt = str(one.brain.prompts[-1])
        assert all(word in prompt for word in (SAID, OPEN))


async def test_nothing_that_was_said_can_be_read_in_the_folder(tmp_path: Path) -> None:
    await fill(tmp_path, "")
    assert readable(tmp_path) == set(CANARIES), "in clear text all of it is there to be found"
    names = [path.name for path in (tmp_path / "home" / "memory").rglob("*.*")]
    assert [name for name in names if name.startswith("stage_")]


async def test_with_a_key_neither_files_nor_their_names_show_anything(tmp_path: Path) -> None:
    await fill(tmp_path)
    assert readable(tmp_path) == set()
    assert not list((tmp_path / "home").rglob("*stage_*"))
    await check(tmp_path)
    assert readable(tmp_path) == set()
    async with stage(tmp_path) as one:
        await one.talk(f"{SAID} again")
        await one.bot.journal.do(lambda db: db.execute("PRAGMA wal_checkpoint(PASSIVE)"), alone=True)
        assert readable(tmp_path) == set(), "while it runs"
        await one.talk(f"{SAID} and again")
        assert readable(tmp_path) == set(), "in the write-ahead log"


async def test_a_folder_in_clear_text_is_encrypted_at_the_next_start_and_decrypted_by_a_command(tmp_path: Path) -> None:
    await fill(tmp_path, "")
    (tmp_path / "home" / TYPED).write_text(json.dumps(SAID))
    await check(tmp_path)
    assert readable(tmp_path) == set()
    bot = resting(tmp_path)
    assert "is in clear text" in await asyncio.to_thread(turn_off, bot.config, bot.home, "env:ROOST_KEY")
    assert readable(tmp_path) >= {SAID, ANSWERED, FACT, STATE, DEAD, NAME, REACTED, ERROR, OPEN, UNSENT, FOLDED}
    assert list((tmp_path / "home").rglob("stage_1-*.cold"))
    assert not list((tmp_path / "home").rglob("*sealed*")) and not list((tmp_path / "home").rglob("cipher*"))
    await check_again(tmp_path, "")
    await check_again(tmp_path, SEALED)
    assert readable(tmp_path) == set()


async def check_again(folder: Path, config: str) -> None:
    async with stage(folder, config) as one:
        await one.quiet()
        assert await one.talk("/facts") == f"1. {FACT}"
        assert await one.talk("/kept") == STATE
        assert FOLDED in await one.talk(f"/recall {FOLDED}")
        assert not await one.receive(one.message("again", id="late"))


# Without the right key.


@pytest.mark.parametrize(
    ("config", "error", "sentence"),
    [
        (OTHER, StoreError, "The key from env:ROOST_OTHER_KEY is not the one"),
        ("", ConfigError, "is encrypted, and bot.toml does not say where the key is"),
        ('[bot]\nencryption = "env:NOT_THERE"\n', ConfigError, "NOT_THERE is not set"),
        ('[bot]\nencryption = "a key of somebody who misread"\n', ConfigError, "the key itself does not belong there"),
    ],
)
async def test_without_the_right_key_it_says_so_and_changes_nothing(
    tmp_path: Path, config: str, error: type[RoostError], sentence: str
) -> None:
    await fill(tmp_path)
    before = content(tmp_path)
    with pytest.raises(error, match=sentence) as told:
        async with stage(tmp_path, config):
            pass
    assert "misread" not in str(told.value)
    assert content(tmp_path) == before
    await check(tmp_path)


async def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(tmp_path)
    before = content(tmp_path)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
        with pytest.raises(ConfigError, match=r'pip install -e "\.\[encryption\]"'):
            async with stage(tmp_path):
                pass
    assert content(tmp_path) == before
    await check(tmp_path)


async def test_a_journal_without_its_key_file_is_refused(tmp_path: Path) -> None:
    await fill(tmp_path)
    kept = {name: (tmp_path / "home" / name).read_bytes() for name in ("cipher.json", "cipher.json.copy")}
    for name in kept:
        (tmp_path / "home" / name).unlink()
    for config, sentence in ((SEALED, "'cipher.json' is gone"), (SEALED, "is gone"), ("", "there is no key to open")):
        with pytest.raises(StoreError, match=sentence.replace("'", ".*")):
            async with stage(tmp_path, config):
                pass
    for name, data in kept.items():
        (tmp_path / "home" / name).write_bytes(data)
    await check(tmp_path)


async def test_a_journal_of_another_folder_is_refused(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        await fill(tmp_path / name)
    (tmp_path / "one" / "home" / "journal.db").replace(tmp_path / "other" / "home" / "journal.db")
    before = content(tmp_path / "other")
    with pytest.raises(StoreError, match="was encrypted with the key of another folder"):
        async with stage(tmp_path / "other"):
            pass
    assert content(tmp_path / "other") == before


# Changes of bot.toml while it runs.


async def test_a_key_written_while_the_bot_runs_counts_from_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "roost")
    async with stage(tmp_path, "") as one:
        one.path.write_text(SEALED + one.path.read_text())
        await one.bot.reload()
        assert "the changes in [bot] encryption take effect at the next start" in caplog.text
        assert "applied" not in caplog.text
        await one.talk(SAID)
        assert readable(tmp_path) == {SAID, ANSWERED}
    async with stage(tmp_path) as one:
        assert readable(tmp_path) == set()


async def test_a_memory_that_is_changed_while_the_bot_runs_is_sealed_too(tmp_path: Path) -> None:
    async with stage(tmp_path) as one:
        one.path.write_text(one.path.read_text().replace("compact_keep = 4", "compact_keep = 6"))
        before = one.bot.memory
        await one.bot.reload()
        assert one.bot.memory is not before
        await one.talk(SAID)
        assert readable(tmp_path) == set()


# The command line.


@offer
async def shout(bot: Bot, word: str) -> str:
    return f"{bot.name} says {word}!"


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setattr(bot_module, "HEED", 0.01)
    monkeypatch.setattr(wishes, "LOOK", 0.01)
    monkeypatch.setenv("ROOST_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shell.toml").write_text(SEALED + '[brain]\nuse = "echo"\n')
    monkeypatch.setenv("ROOST_CONFIG", str(tmp_path / "shell.toml"))

    def run(*words: str) -> Result:
        result = CliRunner().invoke(main, words)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run


async def test_the_command_line_works_on_an_encrypted_folder(tmp_path: Path, shell: Callable[..., Result]) -> None:
    await fill(tmp_path)

    async def say(*words: str) -> str:
        return (await asyncio.to_thread(shell, *words)).output

    async def ask_all() -> None:
        assert ERROR in await say("letters", "list")
        assert DEAD in await say("letters", "show", "10")
        assert "WRONG" not in await say("journal", "check")
        assert "stage:1 " in await say("memory", "list")
        assert FOLDED in await say("memory", "search", "stage:1", FOLDED)

    await ask_all()
    async with stage(tmp_path) as one:
        await ask_all()
        assert await asyncio.to_thread(wish, one.bot.config, one.bot.registry, shout, SAID) == f"Roost says {SAID}!"
        assert readable(tmp_path) == set()
        assert await say("letters", "resend") == "1 to be sent again.\n"
        async with one.channel.came:
            await one.channel.came.wait_for(lambda: DEAD in str(one.channel.sent))


async def test_the_command_line_refuses_without_the_key(
    tmp_path: Path, shell: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(tmp_path)
    before = content(tmp_path)
    (tmp_path / "shell.toml").write_text('[brain]\nuse = "echo"\n')
    for words in (("letters", "list"), ("letters", "drop", "--yes"), ("journal", "check"), ("memory", "list")):
        result = await asyncio.to_thread(shell, *words)
        assert result.exit_code == 1 and "is encrypted, and" in result.output, result.output
    monkeypatch.setenv("ROOST_BOT_ENCRYPTION", "env:ROOST_OTHER_KEY")
    result = await asyncio.to_thread(shell, "letters", "list")
    assert result.exit_code == 1 and "is not the one" in result.output
    assert content(tmp_path) == before


async def test_encryption_is_switched_on_looked_at_and_off_by_commands(
    tmp_path: Path, shell: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def say(*words: str) -> str:
        return str(shell(*words).output).strip()

    await fill(tmp_path, "")
    monkeypatch.setenv("ROOST_BOT_ENCRYPTION", "")
    assert "Encryption is off. Make a key with `roost encryption new-key`" in await asyncio.to_thread(
        say, "encryption", "status"
    )
    assert "bot.toml does not say where the key is" in await asyncio.to_thread(say, "encryption", "on")
    assert len(say("encryption", "new-key")) == 44
    monkeypatch.delenv("ROOST_BOT_ENCRYPTION")
    assert "is in clear text. The next start encrypts it" in say("encryption", "status")
    assert "loses the data" in await asyncio.to_thread(say, "encryption", "on")
    assert readable(tmp_path) == set()
    assert "is encrypted; the key from env:ROOST_KEY opens it" in say("encryption", "status")
    told = await asyncio.to_thread(say, "encryption", "change-key", "env:ROOST_OTHER_KEY")
    assert 'encryption = "env:ROOST_OTHER_KEY"' in told
    assert "is not the one" in say("encryption", "status")
    assert "is not the one" in await asyncio.to_thread(say, "encryption", "off", "--yes")
    async with stage(tmp_path, OTHER):
        assert "Another Roost uses" in await asyncio.to_thread(say, "encryption", "off", "--yes", "env:ROOST_OTHER_KEY")
    assert "Take the key out of bot.toml" in await asyncio.to_thread(
        say, "encryption", "off", "--yes", "env:ROOST_OTHER_KEY"
    )
    assert readable(tmp_path) >= {SAID, ANSWERED, FACT, STATE}
    assert "is not encrypted" in await asyncio.to_thread(say, "encryption", "off", "--yes")


def test_the_doctor_tells_how_it_is(
    tmp_path: Path, shell: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> list[tuple[bool, str]]:
        lines = [(one.ok, one.text) for one in findings(tmp_path / "shell.toml")]
        return [line for line in lines if "ncrypt" in line[1] or "clear text" in line[1] or "NOT_THERE" in line[1]]

    assert [ok for ok, text in told() if "is in clear text. The next start encrypts it" in text] == [True]
    shell("encryption", "on")
    assert told() == [(True, f"'{tmp_path / 'home'}' is encrypted; the key from env:ROOST_KEY opens it.")]
    monkeypatch.setenv("ROOST_BOT_ENCRYPTION", "env:NOT_THERE")
    assert [ok for ok, _ in told()] == [False]
    monkeypatch.setenv("ROOST_BOT_ENCRYPTION", "")
    assert [ok for ok, _ in told()] == [False]


async def test_what_cannot_be_decrypted_keeps_the_key(tmp_path: Path) -> None:
    await fill(tmp_path)
    strange = tmp_path / "home" / "memory" / "strange.jsonl"
    strange.write_bytes(b'12345678 ["roost sealed",2]\nrubbish')
    bot = resting(tmp_path)
    with pytest.raises(StoreError, match=r"strange.jsonl' could not be decrypted"):
        await asyncio.to_thread(turn_off, bot.config, bot.home, "env:ROOST_KEY")
    assert (bot.home / "cipher.json").exists()
    strange.unlink()
    await asyncio.to_thread(turn_off, bot.config, bot.home, "env:ROOST_KEY")
    await check_again(tmp_path, "")


class Died(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("step", ["_open_memory", "_open_journal", "open_copies", "_end"])
async def test_decrypting_that_was_interrupted_goes_on_either_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    await fill(tmp_path)
    bot = resting(tmp_path)

    def die(*_: object) -> None:
        raise Died

    for again in (SEALED, ""):
        with monkeypatch.context() as patch:
            patch.setattr(encryption, step, die)
            with pytest.raises(Died):
                await asyncio.to_thread(turn_off, bot.config, bot.home, "env:ROOST_KEY")
        with pytest.raises(ConfigError, match="does not say where the key is"):
            async with stage(tmp_path, ""):
                pass
        if not again:
            await asyncio.to_thread(turn_off, bot.config, bot.home, "env:ROOST_KEY")
        await check_again(tmp_path, again)
        assert (readable(tmp_path) == set()) == bool(again)


async def test_what_was_forgotten_is_not_there_when_all_is_decrypted_either(tmp_path: Path) -> None:
    await fill(tmp_path)
    memory = tmp_path / "home" / "memory"
    assert len(list(memory.rglob("sealed-*"))) > 3
    async with stage(tmp_path) as one:
        await one.quiet()
        assert (await one.talk("/forget all")).startswith("Forgotten: ")
        assert list(memory.rglob("sealed-*")) == []
    bot = resting(tmp_path)
    await asyncio.to_thread(turn_off, bot.config, bot.home, "env:ROOST_KEY")
    ids_elsewhere_and_names = {REACTED, UNSENT, REFUSED, NAME}
    assert readable(tmp_path) == ids_elsewhere_and_names


async def test_the_shell_of_the_memory_shows_turns_and_leaves_none_behind(
    tmp_path: Path, shell: Callable[..., Result]
) -> None:
    await fill(tmp_path)
    typed = "print(turns.search(Query().role == 'user')[0]['text'])\n"
    result = await asyncio.to_thread(CliRunner().invoke, main, ["memory", "shell", "stage:1"], typed)
    assert SAID in result.output, result.output
    assert readable(tmp_path) == set()


async def test_what_is_typed_at_a_terminal_is_kept_in_clear_folders_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOST_HOME", str(tmp_path / "home"))
    kept: list[Path | None] = []

    async def chat(_: Path, past: Path | None) -> int:
        kept.append(past)
        return 0

    monkeypatch.setattr("roost.chat.chat", chat)
    for config in ("", SEALED):
        async with stage(tmp_path, config) as one:
            assert await asyncio.to_thread(run_chat, one.bot.config, one.registry) == 0
    assert kept == [tmp_path / "home" / TYPED, None]
