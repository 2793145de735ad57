"""Who is let in, by whom, and what everybody else gets: mostly nothing."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost import guarding, pairing
from roost.contracts import Limits
from roost.door import plain
from roost.errors import NotSent
from roost.pairing import ALPHABET, is_code, meant, new_code, shown
from roost.secret import new_key
from roost.testing import Stage, StageChannel
from roost.tools import tool
from roost.values import Message, Person, Place, Reply, Sent

OWNED = '[bot]\nowner = "stage:ann"\n[access]\ndirect = "pairing"\n'
UNOWNED = '[access]\ndirect = "pairing"\n'
TEAM = Place("stage", "team", kind="group")
CODE = re.compile(rf"\b[{ALPHABET}]{{4}}-[{ALPHABET}]{{4}}\b")


class Pressable(StageChannel):
    """A platform with buttons."""

    limits = Limits(max_text=4096, buttons=5)


class Clock:
    """The time as the bot sees it, to be set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.time()
        monkeypatch.setattr(time, "time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def knock(stage: Stage, person: str = "Eve", text: str = "hello", **fields: object) -> str:
    """A stranger writes; what they are answered."""
    before = len(stage.channel.sent)
    chat = f"chat of {person}"
    await stage.say(text, person=person, chat=chat, **fields)
    await stage.quiet()
    return "\n".join(reply.text for place, reply in stage.channel.sent[before:] if place.chat == chat)


def told(stage: Stage, chat: str = "1") -> list[Reply]:
    """What was said in the chat of the owner."""
    return [reply for place, reply in stage.channel.sent if place.chat == chat]


def code_in(text: str) -> str:
    found = CODE.search(text)
    assert found is not None, text
    return found[0]


def values(reply: Reply) -> dict[str, str]:
    return {button.text: button.value for button in reply.buttons}


# The code


@given(st.integers(0, 50))
def test_a_code_has_eight_characters_that_nobody_takes_for_another(_: int) -> None:
    code = new_code()
    assert len(code) == 8
    assert not set(code) & set("0O1Il o")
    assert is_code(code)


@given(st.text(ALPHABET, min_size=8, max_size=8), st.booleans())
def test_a_code_is_known_however_it_is_written(code: str, low: bool) -> None:
    written = shown(code).replace("-", " - ").lower() if low else f" {shown(code)}\n"
    assert meant(written) == code
    assert is_code(written)


def test_codes_do_not_repeat() -> None:
    assert len({new_code() for _ in range(2000)}) == 2000


# Pairing


async def test_a_stranger_is_let_in_by_the_code_that_they_told_the_owner(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OWNED) as stage:
        await stage.talk("good morning")
        code = code_in(await knock(stage))
        assert stage.brain.prompts[-1].question == "good morning"
        said = (await stage.talk(f"/approve {code.lower()}")).split("\n\n")
        assert sorted(said) == [guarding.WELCOME, "`stage:eve` is let in."]
        assert await knock(stage, text="thank you") == "thank you"
    async with Stage(tmp_path, config=OWNED) as stage:
        assert await knock(stage, text="still here?") == "still here?"


async def test_the_owner_is_asked_where_they_spoke_last_and_can_press_a_button(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OWNED, channel=Pressable) as stage:
        await stage.talk("hello", chat="old")
        await stage.talk("hello", chat="1")
        await knock(stage)
        asked = told(stage)[-1]
        assert "Somebody asks to be let in on stage" in asked.text
        assert "`stage:eve`" in asked.text
        assert "`Eve`, which anybody can" in asked.text
        assert not CODE.search(asked.text), "whoever is asked has to hear the code from the stranger"
        assert values(asked) == {"Approve": "/approve 1", "Deny": "/deny 1", "Block": "/block 1"}
        assert len(told(stage, "old")) == 1
        assert "is let in" in await stage.talk(values(asked)["Approve"])
        assert await knock(stage, text="thank you") == "thank you"


async def test_the_owner_is_found_again_after_a_restart(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OWNED) as stage:
        await stage.talk("hello", chat="old")
        await stage.talk("hello", chat="1")
    async with Stage(tmp_path, config=OWNED) as stage:
        await knock(stage)
        assert "`stage:eve`" in told(stage)[-1].text


async def test_whoever_is_the_owner_no_longer_is_not_told_of_strangers(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OWNED) as stage:
        await stage.talk("hello")
    other = OWNED.replace("stage:ann", "stage:bob")
    async with Stage(tmp_path, config=other) as stage:
        assert CODE.search(await knock(stage))
        assert told(stage) == []


async def test_without_a_chat_of_the_owner_the_console_is_told(tmp_path: Path) -> None:
    class Terminal(StageChannel):
        local = True

    stage = Stage(tmp_path, config=OWNED + '[channels.terminal]\nkind = "desk"\n')
    stage.registry.channels.put("desk", Terminal)
    async with stage:
        await knock(stage)
        desk = stage.bot.channel("terminal")
        assert isinstance(desk, Terminal)
        assert [str(place) for place, _ in desk.sent] == ["terminal:terminal"]


async def test_a_code_is_nowhere_on_the_disk(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OWNED) as stage:
        await stage.talk("hello")
        code = code_in(await knock(stage))
        for when in ("while it counts", "after it was used", "after a stop"):
            found = [path for path in tmp_path.rglob("*") if path.is_file() and has_code(path.read_bytes(), code)]
            assert not found, when
            if when == "while it counts":
                await stage.talk("/approve 1")
            elif when == "after it was used":
                await stage.bot.stop()


def has_code(data: bytes, code: str) -> bool:
    return any(form.encode() in data for form in (code, meant(code), code.lower(), meant(code).lower()))


async def test_a_code_counts_for_an_hour_and_an_id_for_longer(tmp_path: Path, clock: Clock) -> None:
    async with Stage(tmp_path, config=OWNED) as stage:
        await stage.talk("hello")
        code = code_in(await knock(stage))
        clock.now += pairing.VALID + 1
        assert "no request with that code" in await stage.talk(f"/approve {code}")
        late = await stage.talk("/approve 1")
        assert "more than an hour ago" in late
        assert await knock(stage) == ""
        assert "is let in" in await stage.talk("/approve stage:eve")
        assert await knock(stage) == "hello"


async def test_a_clock_that_is_set_back_lets_no_code_count_longer(tmp_path: Path, clock: Clock) -> None:
    async with Stage(tmp_path, config=OWNED) as stage:
        await stage.talk("hello")
        code = code_in(await knock(stage))
        clock.now -= 86400
        assert "no request with that code" in await stage.talk(f"/approve {code}")


async def test_a_code_counts_once(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OWNED) as stage:
        await stage.talk("hello")
        code = code_in(await knock(stage))
        await stage.talk(f"/approve {code}")
        assert "no request with that code" in await stage.talk(f"/approve {code}")
        assert "no request '1'" in await stage.talk("/approve 1")


async def test_a_code_that_did_not_leave_before_a_restart_leaves_after_it_and_counts(tmp_path: Path) -> None:
    class Down(StageChannel):
        async def send(self, place: Place, reply: Reply) -> None:  # type: ignore[override]
            await asyncio.Future()

    async with Stage(tmp_path, config=OWNED, channel=Down) as stage:
        await stage.say("hello", person="Eve", chat="chat of Eve")
        await stage.bot.pipeline.lanes.idle()
    async with Stage(tmp_path, config=OWNED) as stage:
        await stage.quiet()
        (reply,) = told(stage, "chat of Eve")
        assert "roost-code" not in reply.text
        assert "`stage:eve` is let in." in await stage.talk(f"/approve {code_in(reply.text)}")


async def test_a_token_shows_its_code_to_nobody_but_the_one_who_asked(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OWNED) as stage:
        await stage.talk("hello")
        await knock(stage)
        sql = "SELECT token FROM request"
        ((token,),) = await stage.bot.journal.do(lambda db: db.execute(sql).fetchall())
        assert await stage.talk(f"roost-code-{token}") == pairing.GONE


async def test_the_hour_of_a_code_begins_when_it_arrives(tmp_path: Path, clock: Clock) -> None:
    async with Stage(tmp_path, config=OWNED) as stage:
        await stage.talk("hello")
        send, away = stage.channel.send, [pairing.VALID - 60] * 2

        async def later(place: Place, reply: Reply) -> Sent:
            if place.chat == "1" or not away:
                return await send(place, reply)
            clock.now += away.pop()
            raise NotSent("away", retry_after=0.01)

        stage.channel.send = later  # type: ignore[method-assign]
        await stage.say("hello", person="Eve", chat="chat of Eve")
        await stage.quiet()
        clock.now += 120
        code = code_in(told(stage, "chat of Eve")[-1].text)
        assert "is let in" in await stage.talk(f"/approve {code}")


async def test_a_sealed_journal_shows_no_name_of_who_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", new_key())
    sealed = OWNED.replace("[access]", 'encryption = "env:SOME_KEY"\n[access]')
    async with Stage(tmp_path, config=sealed) as stage:
        await stage.talk("hello")
        await stage.receive(Message("1", Place("stage", "2"), Person("stage", "eve", "Canary Bird"), "hi"))
        await stage.quiet()
        assert "Canary Bird" in told(stage)[-1].text
        assert "Canary Bird" in await stage.talk("/people")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"Canary" in path.read_bytes()]


async def test_five_wrong_codes_lock_even_the_right_one_out_for_an_hour(tmp_path: Path, clock: Clock) -> None:
    async with Stage(tmp_path, config=OWNED) as stage:
        await stage.talk("hello")
        code = code_in(await knock(stage))
        wrong = [await stage.talk(f"/approve {shown(new_code())}") for _ in range(pairing.WRONG)]
        assert "no request with that code" in wrong[0]
        assert wrong[-1] == guarding.LOCKED
        assert await stage.talk(f"/approve {code}") == guarding.LOCKED
    async with Stage(tmp_path, config=OWNED) as stage:
        assert await stage.talk(f"/approve {code}") == guarding.LOCKED
        clock.now += 3601
        other = code_in(await knock(stage, "Bob"))
        assert "`stage:bob` is let in." in await stage.talk(f"/approve {other}")


async def test_two_who_decide_at_once_do_not_both_decide(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OWNED) as stage:
        await stage.talk("hello")
        await knock(stage)
        request = await stage.bot.access.pairing.by_number(1)
        assert request is not None
        decide = stage.bot.access.pairing.decide
        assert sorted(await asyncio.gather(*(decide(request, "denied") for _ in range(5)))) == [False] * 4 + [True]


async def test_only_some_strangers_are_answered_and_each_once(tmp_path: Path, clock: Clock) -> None:
    async with Stage(tmp_path, config=OWNED + "strangers_per_hour = 8\n") as stage:
        await stage.talk("hello")
        answers = [await knock(stage, f"Eve{number}") for number in range(20)]
        assert [bool(CODE.search(one)) for one in answers] == [True] * pairing.PENDING + [False] * 15
        assert answers[pairing.PENDING :] == [""] * 15
        assert len(told(stage)) == 1 + pairing.PENDING
        for _ in range(3):
            assert await knock(stage, "Eve0") == ""
        for number in range(1, 6):
            await stage.talk(f"/deny {number}")
        answers = [await knock(stage, f"Bob{number}") for number in range(5)]
        assert [bool(one) for one in answers] == [True] * 3 + [False] * 2, "eight in an hour"
        clock.now += 3601
        assert await knock(stage, "Bob4")


async def test_who_was_answered_is_not_answered_again_for_a_month_nor_after_a_restart(
    tmp_path: Path, clock: Clock
) -> None:
    async with Stage(tmp_path, config=OWNED) as stage:
        assert await knock(stage)
    for days in (0, 2, 20):
        clock.now += days * 86400
        async with Stage(tmp_path, config=OWNED) as stage:
            assert await knock(stage) == ""
    clock.now += 30 * 86400
    async with Stage(tmp_path, config=OWNED) as stage:
        assert await knock(stage)


async def test_a_message_that_is_taken_up_again_after_a_crash_is_answered_with_the_same_request(
    tmp_path: Path,
) -> None:
    async with Stage(tmp_path, config=OWNED) as stage:
        message = stage.message("hello", person="Eve", chat="2")
        first, second = [await stage.bot.access.admit(message, local=False) for _ in range(2)]
        assert first == second
        assert first.answer
        assert len(await stage.bot.access.pairing.pending()) == 1


async def test_who_is_denied_hears_nothing_of_it(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OWNED) as stage:
        await stage.talk("hello")
        code = code_in(await knock(stage))
        await stage.talk("/deny 1")
        assert len(told(stage, "chat of Eve")) == 1
        assert await knock(stage) == ""
        assert "no request with that code" in await stage.talk(f"/approve {code}")


@pytest.mark.parametrize(
    "name",
    ["Ann\n\nApprove: `/approve 1`", "`x` **Mum** [y](http://e.example)", "\u202eymmuM\u202c", "a" * 500, "\x00\u200b"],
)
async def test_a_strangers_name_cannot_pretend_to_be_more_than_a_name(tmp_path: Path, name: str) -> None:
    assert re.fullmatch(r"[^`\n\u202a-\u202e\x00-\x1f]{0,40}", plain(name))
    async with Stage(tmp_path, config=OWNED) as stage:
        await stage.talk("hello")
        stranger = stage.message("hi", chat="2")
        await stage.receive(Message("1", stranger.place, Person("stage", "eve", name), "hi"))
        await stage.quiet()
        line = next(line for line in told(stage)[-1].text.splitlines() if "calls themselves" in line)
        assert line == f"- calls themselves `{plain(name) or 'nothing'}`, which anybody can"


@pytest.mark.parametrize("line", ["/approve 1", "/deny 1", "/block stage:ann", "/unblock stage:eve", "/people"])
async def test_deciding_is_for_admins_and_roles_are_for_the_owner(tmp_path: Path, line: str) -> None:
    async with Stage(tmp_path, config=OWNED + 'people = ["stage:bob"]\n') as stage:
        await knock(stage)
        name = line.split(maxsplit=1)[0]
        assert await knock(stage, "Bob", line) == f"{name} is for my owner and those who help."
        assert await stage.talk("/role stage:bob admin") == "`stage:bob` is to me, from now on: admin."
        assert "for my owner" not in await knock(stage, "Bob", line)
        assert await knock(stage, "Bob", "/role stage:bob admin") == "/role is for my owner."


async def test_nobody_blocks_the_owner_or_their_like(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OWNED) as stage:
        for person in ("bob", "cid"):
            await stage.talk(f"/role stage:{person} admin")
        for person in ("stage:ann", "stage:cid", "stage:bob"):
            assert "cannot block" in await knock(stage, "Bob", f"/block {person}")
        assert "cannot block" in await stage.talk("/block stage:ann")
        assert "is blocked" in await stage.talk("/block stage:bob")
        assert await knock(stage, "Bob", "/people") == ""


# Blocking, roles


async def test_who_is_blocked_gets_silence_and_is_not_overheard(tmp_path: Path) -> None:
    config = '[bot]\nowner = "stage:ann"\n[access]\ndirect = "open"\ngroups = "open"\n'
    async with Stage(tmp_path, config=config) as stage:
        assert await knock(stage, text="a word") == "a word"
        assert await stage.talk("/block stage:eve") == "`stage:eve` is blocked."
        for text in ("hello", "/help", "/whoami", "/stop"):
            assert await knock(stage, text=text) == ""
        assert await stage.talk("a line", person="Eve", place=TEAM) == ""
        assert await stage.talk("a line", person="Eve", place=TEAM, addressed=False) == ""
        assert (await stage.bot.memory.recall(TEAM, 1000, stage.brain.count)).turns == ()
    async with Stage(tmp_path, config=config) as stage:
        assert await knock(stage) == ""
        assert "to me: stranger" in await stage.talk("/unblock stage:eve")
        assert await knock(stage) == "hello"


async def test_who_was_blocked_is_afterwards_what_they_were_before(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OWNED) as stage:
        await stage.talk("/role stage:bob admin")
        await stage.talk("/block stage:bob")
        assert "`stage:bob`: blocked" in await stage.talk("/people")
        assert stage.bot.access.role("stage:bob") == "stranger"
        assert await knock(stage, "Bob", "/people") == ""
        assert "to me: admin" in await stage.talk("/unblock stage:bob")
        assert "I know" not in await knock(stage, "Bob", "/people")


async def test_bot_toml_cannot_let_in_who_is_blocked(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OWNED + 'people = ["stage:bob"]\n') as stage:
        assert await knock(stage, "Bob") == "hello"
        await stage.talk("/block stage:bob")
        assert await knock(stage, "Bob") == ""


async def test_a_guest_may_chat_and_use_nothing_above(tmp_path: Path) -> None:
    @tool(role="person")
    def diary() -> str:
        """Read the diary."""
        return ""

    @tool
    def dice() -> str:
        """Throw dice."""
        return ""

    tools = ModuleType("tools")
    tools.diary, tools.dice = diary, dice  # type: ignore[attr-defined]
    async with Stage(tmp_path, [tools], config=OWNED) as stage:
        offered = {}
        for role in ("guest", "person"):
            await stage.talk(f"/role stage:bob {role}")
            assert await knock(stage, "Bob") == "hello"
            offered[role] = {one.name for one in stage.brain.prompts[-1].tools}
        assert {"dice"} <= offered["guest"]
        assert offered["person"] - offered["guest"] == {"diary"}


async def test_people_tells_who_is_known_and_who_waits(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OWNED + 'people = ["stage:bob"]\n') as stage:
        await stage.talk("/role stage:cid guest")
        await knock(stage)
        assert (await stage.talk("/people")).splitlines() == [
            "- `stage:cid`: guest",
            "- `stage:bob`: person, by bot.toml",
            "- 1. `stage:eve` asks to be let in, calls themselves `Eve`",
        ]


# Becoming the owner


async def test_of_many_who_send_the_owners_code_at_once_one_becomes_the_owner(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=UNOWNED) as stage:
        code = stage.bot.access.new_code()
        await asyncio.gather(*(stage.say(code, person=f"P{n}", chat=f"{n}") for n in range(8)))
        await stage.quiet()
        said = [reply.text for _, reply in stage.channel.sent if "my owner now" in reply.text]
        assert len(said) == 1
        assert [one.role for one in await stage.bot.people.known()] == ["owner"]


async def test_the_owners_code_is_void_once_there_is_an_owner(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=UNOWNED) as stage:
        code = stage.bot.access.new_code()
        await stage.bot.access.let_in("stage:ann", "owner")
        assert "my owner now" not in await knock(stage, text=code)
        assert stage.bot.access.role("stage:eve") == "stranger"


async def test_a_claim_that_cannot_be_written_down_can_be_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Stage(tmp_path, config=UNOWNED) as stage:
        code = stage.bot.access.new_code()
        with monkeypatch.context() as patched:

            async def full(*_: object) -> None:
                raise OSError("disk full")

            patched.setattr(stage.bot.journal, "let_in", full)
            assert "my owner now" not in await stage.talk(code)
        assert "my owner now" in await stage.talk(code)


async def test_before_there_is_an_owner_nobody_gets_a_code_but_may_ask_a_day_later(
    tmp_path: Path, clock: Clock
) -> None:
    async with Stage(tmp_path, config=UNOWNED) as stage:
        code = stage.bot.access.new_code()
        assert not CODE.search(await knock(stage))
        await stage.talk(code)
        assert await knock(stage) == ""
        clock.now += pairing.UNCLAIMED + 1
        assert CODE.search(await knock(stage))


# Places


async def test_a_channel_and_a_place_may_have_rules_of_their_own(tmp_path: Path) -> None:
    config = """
[access]
direct = "closed"
groups = "closed"
[access.channels.stage]
direct = "allowlist"
people = ["stage:bob"]
[access.places."stage:team"]
groups = "addressed"
people = ["stage:cid"]
[access.places."stage:team/loud"]
groups = "open"
"""
    team = {name: Place("stage", "team", name, kind="group") for name in ("", "quiet", "loud")}
    other = Place("stage", "other", kind="group")
    async with Stage(tmp_path, config=config) as stage:
        assert await knock(stage, "Bob") == "hello"
        assert await knock(stage, "Cid") == ""
        for person, heard in {"Bob": {"", "quiet", "loud"}, "Cid": {"", "quiet", "loud"}, "Eve": {"loud"}}.items():
            said = {name: await stage.talk("hi", person=person, place=place) for name, place in team.items()}
            assert {name for name, answer in said.items() if answer} == heard, person
            assert await stage.talk("hi", person=person, place=other) == ""


async def test_a_group_is_answered_when_it_addresses_the_bot_and_by_whom_it_knows(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OWNED) as stage:
        assert await stage.talk("hi", place=TEAM, addressed=False) == ""
        assert await stage.talk("hi", place=TEAM, person="Eve") == ""
        assert await stage.talk("hi", place=TEAM)
        assert await stage.bot.access.pairing.pending() == []


async def test_what_is_not_for_the_bot_in_a_direct_chat_is_not_answered(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OWNED) as stage:
        assert await stage.talk("to myself", addressed=False) == ""
        assert await knock(stage, text="to somebody else", addressed=False) == ""
        assert await stage.bot.access.pairing.pending() == []
        await stage.talk("hello")
        assert "to myself" in str(stage.brain.prompts[-1].turns), "it is context all the same"


async def test_on_a_personal_account_strangers_get_silence_and_no_code(tmp_path: Path) -> None:
    class Own(StageChannel):
        personal = True

    for name in "abcd":
        (tmp_path / name).mkdir()
    async with Stage(tmp_path / "a", config=OWNED, channel=Own) as stage:
        await stage.talk("hello")
        assert await knock(stage) == ""
        assert len(told(stage)) == 1
        assert await stage.bot.access.pairing.pending() == []
    async with Stage(tmp_path / "b", config=OWNED, channel=Own, channel_config="personal = false") as stage:
        assert CODE.search(await knock(stage))
    async with Stage(tmp_path / "c", config=OWNED, channel_config="personal = true") as stage:
        assert await knock(stage) == ""
    async with Stage(tmp_path / "d", config=UNOWNED, channel=Own) as stage:
        code = stage.bot.access.new_code()
        assert await knock(stage) == ""
        assert "my owner now" in await stage.talk(code), "the owner's code works everywhere"


# What looks like a name


@pytest.mark.parametrize("entry", ["ann", "Ann Smith", "@ann", "stage:@ann", "stage:Ann Smith", ":5", "stage:"])
async def test_a_name_in_a_list_of_people_is_warned_of(
    tmp_path: Path, entry: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Stage(tmp_path, config=f'[access]\n[access.channels.stage]\npeople = ["{entry}"]\n'):
        assert f"[access.channels.stage] people: '{entry}' looks like a name" in caplog.text


@pytest.mark.parametrize("entry", ["stage:42", "stage:@ann:example.org", "a:ann@example.org", "slack:U7", "sms:+3165"])
async def test_a_stable_id_is_not_warned_of(tmp_path: Path, entry: str, caplog: pytest.LogCaptureFixture) -> None:
    async with Stage(tmp_path, config=f'[access]\npeople = ["{entry}"]\n'):
        assert "looks like a name" not in caplog.text


async def test_rules_that_change_while_the_bot_runs_hold_at_once(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OWNED) as stage:
        stage.path.write_text(stage.path.read_text().replace('"pairing"', '"pairing"\npeople = ["stage:bob"]'))
        await stage.bot.reload()
        assert await knock(stage, "Bob") == "hello"
