"""The client of `roost chat` as people and scripts run it: a process of its own, against the real channel."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.listener import listening
from rich.console import Console

from roost.channels.terminal import Terminal, publish
from roost.chat import ask
from roost.contracts import ChannelConfig, Said
from roost.errors import ChannelError, StoreError
from roost.link import Address, Link, connect
from roost.screen import markdown, printable
from roost.values import Button, Event, Message, Place, Reply

PLACE = Place("terminal", "terminal")
CLIENT = """
import asyncio, os, sys
from pathlib import Path
if sys.argv[2:]:
    import fcntl, termios
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from roost.chat import chat
home = Path(sys.argv[1])
status = asyncio.run(chat(home / "address.json", past=home / "past", limit=float(os.environ.get("LIMIT", 60))))
assert sys.argv[2:] or "rich" not in sys.modules
sys.exit(status)
"""
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal is POSIX's")


class Bot:
    """A core that answers by echoing, on a real terminal channel."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.bot_name = "Roost"
        self.channel = Terminal("terminal", ChannelConfig(), self)
        self.ready = asyncio.Event()
        self.heard: list[Message] = []
        self.said: list[Said] = []
        self.listening = asyncio.Event()
        self.stopped = asyncio.Event()
        self._sent = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def pulse(self) -> None:
        self.ready.set()

    def commands(self) -> Sequence[tuple[str, str]]:
        return [("help", "Show what there is."), ("hello", "Greet.")]

    async def history(self, place: Place, limit: int) -> Sequence[Said]:
        return self.said[-limit:]

    async def receive(self, message: Message | Event) -> bool:
        assert isinstance(message, Message)
        if message.text == "/unkept":
            raise OSError("no disk")
        self.heard.append(message)
        self.listening.set()
        task = asyncio.create_task(self._respond(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _respond(self, message: Message) -> None:
        match message.text:
            case "/stop":
                self.stopped.set()
            case "/silence":
                return
            case "/two":
                await self.say(Reply("first", ticket=message.ticket))
                await self.say(Reply("second", ticket=message.ticket))
            case "/fail":
                await self.say(Reply("⚠️ There is no model.", ticket=message.ticket, notice=True))
            case "/choose":
                buttons = (Button("Tea", "/tea"), Button("Coffee", "/coffee"))
                await self.say(Reply("Which?", buttons=buttons, ticket=message.ticket))
            case "/slow":
                sent = await self.channel.send(PLACE, Reply("begun", ticket=message.ticket))
                await self.stopped.wait()
                await self.channel.edit(sent, Reply("broken off", ticket=message.ticket, key="slow"))
            case text:
                await self._stream(Reply(f"You said: {text}", ticket=message.ticket))

    async def _stream(self, reply: Reply) -> None:
        sent = await self.channel.send(PLACE, replace(reply, text=reply.text[:5]))
        for end in range(6, len(reply.text), 1 + len(reply.text) // 50):
            await self.channel.edit(sent, replace(reply, text=reply.text[:end]))
        self._sent += 1
        await self.channel.edit(sent, replace(reply, key=f"k{self._sent}"))

    async def say(self, reply: Reply) -> None:
        self._sent += 1
        await self.channel.send(PLACE, replace(reply, key=f"k{self._sent}"))

    async def run(self) -> None:
        try:
            await self.channel.run(self.receive)
        finally:
            for task in self._tasks:
                task.cancel()


@asynccontextmanager
async def running(home: Path) -> AsyncIterator[Bot]:
    bot = Bot(home)
    task = asyncio.create_task(bot.run())
    await bot.ready.wait()
    try:
        yield bot
    finally:
        task.cancel()
        await asyncio.gather(task, *bot._tasks, return_exceptions=True)


@pytest.fixture
async def bot(tmp_path: Path) -> AsyncIterator[Bot]:
    async with running(tmp_path) as bot:
        yield bot


async def script(home: Path, said: bytes, **more: str) -> tuple[int | None, str, str]:
    """Run the client with `said` as its input; its status, output and errors."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, str(home),
        stdin=-1, stdout=-1, stderr=-1, env={**os.environ, **more},
    )  # fmt: skip
    async with asyncio.timeout(60):
        out, err = await process.communicate(said)
    return process.returncode, out.decode().replace("\r\n", "\n"), err.decode()


class Screen:
    """A person at a pseudo-terminal of 80 by 24 that runs the client."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._text = ""
        self._raw = ""
        self._more = asyncio.Event()
        self.takes_pastes = False

    async def __aenter__(self) -> Screen:
        import fcntl
        import pty
        import struct
        import termios

        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(slave)
        environment = {**os.environ, "TERM": "xterm-256color", "INPUTRC": os.devnull}
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CLIENT, str(self._home), "terminal",
            stdin=slave, stdout=slave, stderr=slave, env=environment,
        )  # fmt: skip
        self._slave = slave
        os.set_blocking(self._master, False)
        asyncio.get_running_loop().add_reader(self._master, self._read)
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._master)
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        os.close(self._master)
        os.close(self._slave)

    def _read(self) -> None:
        with suppress(OSError):
            self._raw += os.read(self._master, 65536).decode("utf-8", "replace")
        self.takes_pastes |= "\x1b[?2004h" in self._raw
        plain = re.sub(r"\x1b(\[[0-9;?]*[a-zA-Z]|[=>])", "", self._raw).replace("\r", "")
        self._text = re.sub(r" +\n", "\n", plain)
        self._more.set()

    async def shows(self, *texts: str) -> str:
        """Wait for texts, one behind the other, and take everything up to the last one away."""
        seen = ""
        for text in texts:
            seen += await self._next(text)
        return seen

    async def _next(self, text: str) -> str:
        try:
            async with asyncio.timeout(30):
                while text not in self._text:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            pytest.fail(f"'{text}' was not shown, but: {self._text!r}")
        before, _, rest = self._text.partition(text)
        self._text = self._raw = rest
        return before + text

    def keys(self, keys: str | bytes) -> None:
        os.write(self._master, keys if isinstance(keys, bytes) else keys.encode())

    async def status(self) -> int:
        async with asyncio.timeout(30):
            return await self.process.wait()

    def stop_and_go_on(self) -> None:
        """Set the terminal up as a shell does before it lets a stopped program go on."""
        import termios

        termios.tcsetattr(self._slave, termios.TCSANOW, self.before)
        self.process.send_signal(signal.SIGCONT)

    def terminal_is_as_before(self) -> bool:
        import termios

        now = termios.tcgetattr(self._slave)
        return now[:4] == self.before[:4] and now[6] == self.before[6]


async def test_a_script_gets_the_markdown_of_the_answer_and_nothing_else(bot: Bot) -> None:
    assert await script(bot.home, b"**hello**\n") == (0, "You said: **hello**\n", "")


async def test_a_script_says_all_of_its_input_as_one_message(bot: Bot) -> None:
    status, out, _ = await script(bot.home, "\ufeffGrüße\n\nund 👋\n".encode())
    assert (status, out) == (0, "You said: Grüße\n\nund 👋\n")
    assert [message.text for message in bot.heard] == ["Grüße\n\nund 👋"]


async def test_a_script_gets_every_message_that_answers_it(bot: Bot) -> None:
    await bot.say(Reply("a reminder from before"))
    assert await script(bot.home, b"/two") == (0, "first\nsecond\n", "")


async def test_a_script_that_gets_no_answer_is_told_why_and_can_tell_it_from_one(bot: Bot) -> None:
    assert await script(bot.home, b"/fail") == (1, "", f"⚠️ There is no model.{os.linesep}")


@pytest.mark.parametrize("nothing", [b"", b" \n\n"])
async def test_a_script_with_nothing_to_say_is_told_so(bot: Bot, nothing: bytes) -> None:
    status, out, err = await script(bot.home, nothing)
    assert (status, out) == (2, "")
    assert "nothing to say" in err
    assert bot.heard == []


async def test_a_script_gives_up_at_the_time_limit(bot: Bot) -> None:
    status, out, err = await script(bot.home, b"/silence", LIMIT="0.3")
    assert (status, out, err) == (1, "", f"The bot gave no answer within 0.3 seconds.{os.linesep}")


async def test_a_script_is_told_that_no_bot_is_running(tmp_path: Path) -> None:
    status, out, err = await script(tmp_path, b"hello")
    assert (status, out) == (1, "")
    assert err.startswith("No bot is running")


async def test_a_script_whose_bot_goes_away_says_so(tmp_path: Path) -> None:
    async with running(tmp_path) as bot:
        task = asyncio.create_task(script(tmp_path, b"/silence"))
        async with asyncio.timeout(30):
            await bot.listening.wait()
    status, out, err = await task
    assert (status, out) == (1, "")
    assert "ended before there was an answer" in err


async def test_text_that_is_too_long_is_not_sent(bot: Bot) -> None:
    with pytest.raises(ChannelError, match="too long"):
        await ask(Address.read(bot.home / "address.json"), "x" * 2_000_000)
    assert bot.heard == []


async def test_what_could_not_be_kept_is_the_scripts_error(bot: Bot) -> None:
    with pytest.raises(ChannelError, match="could not be kept"):
        await ask(Address.read(bot.home / "address.json"), "/unkept")


async def test_a_wrong_token_is_told_from_no_bot(bot: Bot) -> None:
    address = Address.read(bot.home / "address.json")
    with pytest.raises(ChannelError, match="did not let us in"):
        async with connect(replace(address, token="wrong")):
            pytest.fail("the wrong token was let in")


async def test_an_address_left_by_a_killed_bot_is_answered_by_nobody(tmp_path: Path) -> None:
    async with running(tmp_path) as bot:
        address = Address.read(bot.home / "address.json")
    with pytest.raises(ChannelError, match="No bot answers"):
        await ask(address, "hello")


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH_9.6\r\n", b'{"type": "goodbye"}\n', b"[]\n", None])
async def test_something_else_on_the_port_is_not_taken_for_a_bot(
    greeting: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, greet = asyncio.Event(), Link.greet

    async def impatient(link: Link, *arguments: Any) -> None:
        monkeypatch.setattr("roost.link.CONNECT_SECONDS", 0.2)
        await greet(link, *arguments)

    if greeting is None:
        monkeypatch.setattr(Link, "greet", impatient)

    async def stranger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        if greeting is None:
            await reader.read()
        else:
            writer.write(greeting)
        writer.close()
        await writer.wait_closed()
        left.set()

    async with listening(stranger) as port:
        address = Address("127.0.0.1", port, "t")
        with pytest.raises(ChannelError, match="did not let us in"):
            await ask(address, "hello")
        await left.wait()


@pytest.mark.parametrize("content", ["", "[]", '{"host": "127.0.0.1"}', '{"host": 1, "port": "x", "token": ""}'])
def test_a_damaged_address_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "address.json"
    file.write_text(content)
    with pytest.raises(StoreError, match=re.escape(str(file))):
        Address.read(file)


def test_what_is_published_can_be_read(tmp_path: Path) -> None:
    publish(tmp_path / "address.json", {"host": "127.0.0.1", "port": 7, "token": "t"})
    assert Address.read(tmp_path / "address.json") == Address("127.0.0.1", 7, "t")


def test_printable_text_cannot_steer_a_terminal() -> None:
    assert printable("a\tb\nc\x1b]0;title\x07 \x9b31m\x00\r é👋") == "a\tb\nc]0;title 31m é👋"


def shown(text: str) -> str:
    stream = io.StringIO()
    Console(file=stream, width=60).print(markdown(text))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        ("remind <when> [what]", "remind <when> [what]"),
        ("<div>\nblock\n</div>", "<div>\nblock\n</div>"),
        ("[docs](https://example.org/a)", "docs (https://example.org/a)"),
        ("see <https://example.org>", "see https://example.org"),
        ("![a cat](https://example.org/cat.png)", "a cat (https://example.org/cat.png)"),
        ("[note]: https://example.org", "[note]: https://example.org"),
        ("# Title", "Title"),
        ("one\ntwo", "one\ntwo"),
        ("**bold** \x1b]0;title\x07", "bold ]0;title"),
    ],
)
def test_nothing_in_a_markdown_text_is_hidden(text: str, visible: str) -> None:
    assert "\n".join(line.rstrip() for line in shown(text).strip().splitlines()) == visible


@given(st.text(st.sampled_from("ab1 \n\t*_`~>#-+.[]()!|\\<&:\x1b\x9bé👋"), max_size=80))
def test_no_text_breaks_the_screen_or_steers_it(text: str) -> None:
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown(text))


@POSIX
async def test_a_conversation_at_a_terminal(bot: Bot) -> None:
    bot.said = [Said("1", False, "", "an earlier question", 0), Said("2", True, "", "an earlier answer", 0)]
    async with Screen(bot.home) as screen:
        await screen.shows("Roost is here", "You: an earlier question", "Roost: an earlier answer", "> ")
        screen.keys("hello **there**\r")
        await screen.shows("You said: hello there\n", "> ")
        screen.keys("/quit\r")
        assert await screen.status() == 0
        assert screen.terminal_is_as_before()
    assert [message.text for message in bot.heard] == ["hello **there**"]


@POSIX
async def test_a_paste_of_several_lines_is_one_message(bot: Bot) -> None:
    async with Screen(bot.home) as screen:
        await screen.shows("> ")
        assert screen.takes_pastes
        screen.keys("\x1b[200~one\ntwo\nthree\x1b[201~\r")
        await screen.shows("You said: one\ntwo\nthree\n", "> ")
        screen.keys("\x04")
        assert await screen.status() == 0
    assert [message.text for message in bot.heard] == ["one\ntwo\nthree"]


@POSIX
async def test_bytes_that_are_no_text_do_not_end_the_conversation(bot: Bot) -> None:
    async with Screen(bot.home) as screen:
        await screen.shows("> ")
        screen.keys(b"caf\xe9 \xff!\r")
        await screen.shows("You said: ", "> ")
        screen.keys("still there?\r")
        await screen.shows("You said: still there?", "> ")
        screen.keys("\x04")
        assert await screen.status() == 0


@POSIX
async def test_ctrl_c_stops_an_answer_drops_a_line_and_leaves(bot: Bot) -> None:
    async with Screen(bot.home) as screen:
        await screen.shows("> ")
        screen.keys("/slow\r")
        await screen.shows("begun")
        screen.keys("\x03")
        await screen.shows("broken off", "> ")
        screen.keys("never mind")
        await screen.shows("never mind")
        screen.keys("\x03")
        await screen.shows("> ")
        screen.keys("\x03")
        assert await screen.status() == 0
        assert screen.terminal_is_as_before()
    assert [message.text for message in bot.heard] == ["/slow", "/stop"]


@POSIX
async def test_ctrl_c_twice_waits_no_longer(bot: Bot) -> None:
    async with Screen(bot.home) as screen:
        await screen.shows("> ")
        screen.keys("/silence\r")
        await screen.shows("⠋")
        screen.keys("\x03")
        await screen.shows("stopping")
        screen.keys("\x03")
        await screen.shows("> ")
        screen.keys("/silence\r")
        assert "stopping" not in await screen.shows("/silence", "⠙")
        screen.keys("\x03")
        await screen.shows("stopping")
        screen.keys("\x03")
        await screen.shows("> ")
        screen.keys("\x04")
        assert await screen.status() == 0


@POSIX
async def test_a_message_that_comes_while_one_types_leaves_the_line_as_it_was(bot: Bot) -> None:
    async with Screen(bot.home) as screen:
        await screen.shows("> ")
        screen.keys("half a line")
        await screen.shows("half a line")
        await bot.say(Reply("Time for **tea**."))
        await screen.shows("Time for tea.", "> half a line")
        screen.keys(" and the rest\r")
        await screen.shows("You said: half a line and the rest", "> ")
        screen.keys("\x04")
        assert await screen.status() == 0


@POSIX
async def test_the_prompt_is_there_again_when_a_stopped_conversation_goes_on(bot: Bot) -> None:
    async with Screen(bot.home) as screen:
        await screen.shows("> ")
        screen.keys("half")
        await screen.shows("half")
        screen.stop_and_go_on()
        await screen.shows("> half")
        screen.keys("\x7f\x7flfway\r")
        await screen.shows("You said: halfway", "> ")
        screen.keys("\x04")
        assert await screen.status() == 0


@POSIX
async def test_what_came_while_no_terminal_was_there_is_shown_at_the_start_once(bot: Bot) -> None:
    await bot.say(Reply("Your parcel is here."))
    bot.said = [Said("1", True, "", "Your parcel is here.", 0)]
    async with Screen(bot.home) as screen:
        assert "Roost: Your" not in await screen.shows("Your parcel is here.\n", "> ")
        screen.keys("\x04")
        assert await screen.status() == 0


@POSIX
async def test_a_buttons_number_means_the_button(bot: Bot) -> None:
    async with Screen(bot.home) as screen:
        await screen.shows("> ")
        screen.keys("/choose\r")
        await screen.shows("Which?", "1. Tea", "2. Coffee", "> ")
        screen.keys("2\r")
        await screen.shows("You said: /coffee", "> ")
        screen.keys("\x04")
        assert await screen.status() == 0


@POSIX
async def test_an_answer_taller_than_the_screen_is_there_in_full_at_the_end(bot: Bot) -> None:
    async with Screen(bot.home) as screen:
        await screen.shows("> ")
        lines = [f"line-{number}." for number in range(100)]
        screen.keys("\x1b[200~" + "\n".join(lines) + "\x1b[201~\r")
        await screen.shows("You said: line-0.", *lines[1:], "> ")
        screen.keys("\x04")
        assert await screen.status() == 0


@POSIX
async def test_what_was_typed_is_there_the_next_time_and_only_for_its_owner(bot: Bot) -> None:
    async with Screen(bot.home) as screen:
        await screen.shows("> ")
        screen.keys("\x1b[200~first\nsecond\x1b[201~\r")
        await screen.shows("You said:", "> ")
        screen.keys("\x04")
        assert await screen.status() == 0
    async with Screen(bot.home) as screen:
        await screen.shows("> ")
        screen.keys("\x1b[A\r")
        await screen.shows("You said: first\nsecond", "> ")
        screen.keys("/hel\t\t")
        await screen.shows("/hel", "/hello", "/help")
        screen.keys("\x03\x03")
        assert await screen.status() == 0
    assert (bot.home / "past").stat().st_mode & 0o777 == 0o600


@POSIX
async def test_a_bot_that_goes_away_ends_the_conversation_and_gives_the_terminal_back(tmp_path: Path) -> None:
    async with Screen(tmp_path) as screen:
        async with running(tmp_path):
            await screen.shows("> ")
        await screen.shows("Roost has gone")
        assert await screen.status() == 1
        assert screen.terminal_is_as_before()
