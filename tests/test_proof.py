"""Ids that others can write in the name of: what is made of them, and what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_access import OWNED, UNOWNED, Pressable, code_in, knock, told, values

from roost.guarding import let_in, set_role
from roost.registry import Registry
from roost.testing import Stage

WHY = "the post did not prove it"


class Loose(Pressable):
    """A platform that proves some of its ids, by buttons."""

    @staticmethod
    def unproven(id: str, config: Any) -> str:
        return WHY if id == "eve" else ""


class Forgeable(Pressable):
    """A platform that proves nothing."""

    forgeable = "anybody can write anything there"


@pytest.mark.parametrize("by", ["number", "code", "id"])
async def test_an_id_without_proof_is_let_in_by_a_word_only_and_as_a_guest(tmp_path: Path, by: str) -> None:
    async with Stage(tmp_path, config=OWNED, channel=Loose) as stage:
        await stage.talk("hello")
        code = code_in(await knock(stage))
        who = {"number": "1", "code": code, "id": "stage:eve"}[by]
        said = await stage.talk(f"/approve {who}")
        assert WHY in said and "guest at most" in said and stage.bot.access.role("stage:eve") == "stranger"
        assert values(told(stage)[-1])["Let them in as a guest"].endswith(" guest")
        assert "is let in as a guest" in await stage.talk(f"/approve {who} guest")
        assert stage.bot.access.role("stage:eve") == "guest"
        assert await knock(stage, text="thank you") == "thank you"


async def test_the_owner_is_told_that_an_id_is_no_proof_and_the_button_says_what_it_does(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OWNED, channel=Loose) as stage:
        await stage.talk("hello")
        await knock(stage)
        asked = told(stage)[-1]
        assert f"- that id is no proof: {WHY}\n" in asked.text
        assert values(asked) == {"Let in as a guest": "/approve 1 guest", "Deny": "/deny 1", "Block": "/block 1"}
        await stage.talk(values(asked)["Let in as a guest"])
        assert stage.bot.access.role("stage:eve") == "guest"


async def test_a_proven_id_may_be_let_in_as_a_guest_too(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OWNED, channel=Loose) as stage:
        assert "as a guest" in await stage.talk("/approve `stage:bob` guest")
        assert stage.bot.access.role("stage:bob") == "guest"


async def test_no_command_makes_more_than_a_guest_of_an_id_without_proof(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OWNED, channel=Loose) as stage:
        for what in ("admin", "person"):
            assert WHY in await stage.talk(f"/role stage:eve {what}")
        assert WHY in await set_role(stage.bot, "stage:eve", "owner")
        assert WHY in await let_in(stage.bot, "stage:eve")
        assert stage.bot.access.role("stage:eve") == "stranger"
        assert "from now on: guest." in await stage.talk("/role stage:eve guest")
        assert "from now on: admin." in await stage.talk("/role stage:bob admin")


@pytest.mark.parametrize("role", ["person", "admin", "owner"])
async def test_a_role_that_was_given_while_an_id_was_proven_is_a_guests_once_it_is_not(
    tmp_path: Path, role: Any
) -> None:
    async with Stage(tmp_path, config=OWNED, channel=Pressable) as stage:
        await stage.bot.access.let_in("stage:eve", role)
        assert stage.bot.access.role("stage:eve") == role
    async with Stage(tmp_path, config=OWNED, channel=Loose) as stage:
        assert stage.bot.access.role("stage:eve") == "guest"
        await stage.bot.access.block("stage:eve")
        assert stage.bot.access.role("stage:eve") == "stranger"
    async with Stage(tmp_path, config=f'{OWNED}people = ["stage:eve"]\n', channel=Loose) as stage:
        await stage.bot.access.block("stage:eve", False)
        assert stage.bot.access.role("stage:eve") == "person", "bot.toml is the owner's own word"


async def test_the_owners_code_makes_no_owner_of_an_id_without_proof_and_stays_good(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=UNOWNED, channel=Loose) as stage:
        code = stage.bot.access.new_code()
        said = await knock(stage, text=code)
        assert WHY in said and "another platform" in said
        assert stage.bot.access.role("stage:eve") == "stranger"
        assert "my owner now" in await stage.talk(code)


async def test_where_anybody_can_be_forged_the_owner_is_told_and_decides(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OWNED, channel=Forgeable) as stage:
        await stage.talk("hello")
        await knock(stage)
        assert "no proof: anybody can write anything there" in told(stage)[-1].text
        await stage.talk("/approve 1")
        assert stage.bot.access.role("stage:eve") == "person"
        assert "Mind that this id is no proof" in await stage.talk("/role stage:eve admin")


PROVEN = [
    ("email", "ann@x.test", {"authserv_id": "mx"}, True),
    ("email", "unverified:ann@x.test", {"authserv_id": "mx"}, False),
    ("email", "ann@x.test", {"authserv_id": ""}, False),
    ("irc", "ann", {}, True),
    ("irc", "ann!ann@x.test", {}, False),
    ("xmpp", "ann@x.test", {}, True),
    ("xmpp", "tea@rooms.x.test#a/b", {}, True),
    ("xmpp", "tea@rooms.x.test/ann", {}, False),
    ("xmpp", "#tea%irc.x.test@gate.x.test/ann", {}, False),
    ("mumble", "#7", {}, True),
    ("mumble", "0f" * 20, {}, True),
    ("mumble", "~ann", {}, False),
]


@pytest.mark.parametrize(("kind", "id", "table", "proven"), PROVEN, ids=lambda one: str(one).replace("/", "_"))
def test_each_channel_says_which_of_its_ids_are_proven(kind: str, id: str, table: dict[str, str], proven: bool) -> None:
    registry = Registry()
    registry.load()
    cls: Any = registry.channels.take(kind)
    config = type("Table", (), table)()
    assert (cls.unproven(id, config) == "") is proven


@pytest.mark.parametrize("kind", ["sms", "smpp", "sip", "mqtt", "ntfy", "webhook"])
def test_channels_where_anybody_can_be_forged_say_so(kind: str) -> None:
    registry = Registry()
    registry.load()
    assert getattr(registry.channels.take(kind), "forgeable", "")
