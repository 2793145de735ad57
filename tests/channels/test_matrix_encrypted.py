"""Encrypted rooms of Matrix: a friend's program encrypts for the bot, and the other way round, over Synapse."""

from __future__ import annotations

import itertools
import json
import logging
import stat
import time
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote as part

import pytest
from nio import Api, MegolmEvent, ShareGroupSessionResponse  # type: ignore[import-untyped]
from nio.crypto import decrypt_attachment  # type: ignore[import-untyped]
from servers.matrix_people import Friend, Line, Member
from vodozemac import Ed25519PublicKey, Ed25519Signature

from roost.channels import matrix, matrix_rooms
from roost.errors import Undeliverable
from roost.values import Attachment, Message, Place, Reply

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
SECRET = {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "pauses", lambda *_: itertools.repeat(0.02))
    monkeypatch.setattr(matrix, "SOON", 100)


@pytest.fixture
async def ann() -> AsyncIterator[Friend]:
    async with Member("Ann") as member, Friend(member) as friend:
        yield friend


@pytest.fixture
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    async with Member("Roost") as bot:
        yield Line(bot, tmp_path)


async def secret_room(ann: Friend, line: Line, **more: Any) -> str:
    """A room in which Ann's program knows the bot's device."""
    room = await ann.member.room(line.bot, direct=True, initial_state=[SECRET], **more)
    await line.joined(room)
    await ann.meet(room)
    await ann.until(lambda: line.bot.id in ann.client.device_store.users)
    return room


def text(body: str) -> dict[str, Any]:
    return {"msgtype": "m.text", "body": body}


def is_message(one: Any) -> bool:
    return isinstance(one, Message)


async def test_both_sides_are_encrypted_and_understood_also_after_a_restart(ann: Friend, line: Line) -> None:
    async with line.up():
        room = await secret_room(ann, line)
        asked = await ann.send(room, text("what is the secret?"))
        message = await line.host.next(is_message)
        assert (message.text, message.id, message.place.kind) == ("what is the secret?", asked, "direct")
        await line.channel.send(message.place, Reply("**42** 🦉", quote=message.id))
        await ann.until(lambda: ann.said)
        answer = ann.said.pop()
        assert answer.decrypted and answer.formatted_body == "<p><strong>42</strong> 🦉</p>"
        device = line.channel._account.client.device_id
    await ann.send(room, text("said while you slept"))
    async with line.up():
        assert (await line.host.next(is_message)).text == "said while you slept"
        sent = await line.channel.send(Place("matrix", room), Reply("good morning"))
        await ann.until(lambda: ann.said)
        assert ann.said.pop().body == "good morning"
        await line.channel.edit(sent, Reply("good evening"))
        await ann.until(lambda: ann.said)
        assert ann.said.pop().source["content"]["m.new_content"]["body"] == "good evening"
        assert line.channel._account.client.device_id == device
    await ann.member.sync()
    events = ann.member.events[room]
    assert not [one for one in events if one["type"] == "m.room.message"], "nothing was sent in the clear"


async def test_files_are_encrypted_in_both_directions(ann: Friend, line: Line) -> None:
    async with line.up():
        room = await secret_room(ann, line)
        uploaded, key = await ann.client.upload(
            lambda *tries: BytesIO(PNG), "image/png", "tea.png", True, filesize=len(PNG)
        )
        file = {"url": uploaded.content_uri, **key}
        await ann.send(room, {"msgtype": "m.image", "body": "tea.png", "file": file, "info": {"mimetype": "image/png"}})
        message = await line.host.next(is_message)
        (attachment,) = message.attachments
        assert b"".join([chunk async for chunk in line.channel.fetch(attachment)]) == PNG
        ref = json.loads(attachment.ref)
        ref["file"]["hashes"]["sha256"] = "A" * 43
        forged = Attachment(name="tea.png", ref=json.dumps(ref))
        with pytest.raises(ValueError, match="cannot be decrypted"):
            [chunk async for chunk in line.channel.fetch(forged)]
        await line.channel.send(message.place, Reply("", (Attachment("image", "out.png", "image/png", data=PNG),)))
        await ann.until(lambda: ann.said)
        content = ann.said.pop().source["content"]
        assert "url" not in content and content["info"]["mimetype"] == "image/png"
        opener = content["file"]
        stored = await ann.member.download(opener["url"])
        assert stored != PNG
        assert decrypt_attachment(stored, opener["key"]["k"], opener["hashes"]["sha256"], opener["iv"]) == PNG


async def test_edits_replies_and_reactions_are_read_in_encrypted_rooms(ann: Friend, line: Line) -> None:
    async with line.up():
        room = await secret_room(ann, line)
        first = await ann.send(room, text("my cat is Tom"))
        await line.host.next(is_message)
        fresh = {"m.new_content": text("my cat is Tim"), "m.relates_to": {"rel_type": "m.replace", "event_id": first}}
        await ann.send(room, text("* my cat is Tim") | fresh)
        edited = await line.host.next(is_message)
        assert (edited.id, edited.text, edited.edited) == (first, "my cat is Tim", True)
        sent = await line.channel.send(edited.place, Reply("noted"))
    async with line.up():
        relates = {"m.relates_to": {"m.in_reply_to": {"event_id": sent.ids[0]}}}
        await ann.send(room, text("thanks") | relates)
        message = await line.host.next(is_message)
        assert message.quote is not None and message.quote.id == sent.ids[0]
        await line.channel.react(message.place, message.id, "👍")
        path = f"v1/rooms/{part(room)}/relations/{part(message.id)}/m.annotation"
        found = (await ann.member.ask("GET", path))["chunk"]
        assert [one["content"]["m.relates_to"]["key"] for one in found] == ["👍"]


async def test_a_message_whose_key_never_comes_says_so(
    ann: Friend, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrix_rooms, "KEY_SECONDS", 0.3)
    async with line.up():
        room = await secret_room(ann, line)
        ann.client.blacklist_device(next(ann.client.device_store.active_user_devices(line.bot.id)))
        await ann.send(room, text("you cannot read this"))
        message = await line.host.next(is_message)
        assert message.text == f"[{matrix_rooms.UNREADABLE}]" and message.addressed
        await line.sync_until(lambda: not json.loads((line.host.home / "state.json").read_text())["waiting"])


async def test_a_message_whose_key_comes_late_is_read_even_after_a_restart(
    ann: Friend, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[Any] = []
    send = ann.client._send

    async def hold(kind: Any, method: str, path: str, data: Any = None, *more: Any, **named: Any) -> Any:
        if kind is ShareGroupSessionResponse:
            held.append((kind, method, path, data, *more))
            return ShareGroupSessionResponse(*named["response_data"])
        return await send(kind, method, path, data, *more, **named)

    async with line.up():
        room = await secret_room(ann, line)
        monkeypatch.setattr(ann.client, "_send", hold)
        await ann.send(room, text("patience"))
        await line.sync_until(lambda: json.loads((line.host.home / "state.json").read_text())["waiting"])
        monkeypatch.undo()
        assert not line.host.heard
    async with line.up():
        for kind, method, path, data in held:
            await send(kind, method, path, data, response_data=(room, set()))
        assert (await line.host.next(is_message)).text == "patience"


async def test_new_devices_of_a_member_can_read_along(ann: Friend, line: Line) -> None:
    async with line.up():
        room = await secret_room(ann, line)
        await line.channel.send(Place("matrix", room), Reply("one"))
        account = await ann.member.log_in_again()
        async with Friend(ann.member, account) as second:
            await second.meet(room)
            await line.sync_until(lambda: account["device_id"] in line.devices(ann.member.id))
            await line.channel.send(Place("matrix", room), Reply("two"))
            await second.until(lambda: [one for one in second.said if not isinstance(one, MegolmEvent)])
            assert [one.body for one in second.said if not isinstance(one, MegolmEvent)] == ["two"]


async def test_without_encryption_nothing_is_sent_in_the_clear(
    ann: Friend, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roost.channels.matrix_account.ENCRYPTION_ENABLED", False)
    monkeypatch.setattr("nio.client.base_client.ENCRYPTION_ENABLED", False)
    async with line.up():
        assert line.channel._account.client.olm is None
        room = await ann.member.room(line.bot, initial_state=[SECRET])
        await line.joined(room)
        with pytest.raises(Undeliverable, match="matrix-nio"):
            await line.channel.send(Place("matrix", room), Reply("in the clear"))
        await ann.member.send(room, {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x", "sender_key": "k",
                                     "device_id": "d", "session_id": "s"}, "m.room.encrypted")  # fmt: skip
        assert (await line.host.next(is_message)).text == f"[{matrix_rooms.WITHOUT_KEYS}]"


async def test_the_bots_device_is_signed_by_its_account(ann: Friend, line: Line) -> None:
    for _ in range(2):  # the second time it is signed already
        async with line.up():
            await secret_room(ann, line)
            found = await ann.member.ask("POST", "v3/keys/query", {"device_keys": {line.bot.id: []}})
    me, device = line.bot.id, line.bot.account["device_id"]
    (master,) = found["master_keys"][me]["keys"].values()
    signer = found["self_signing_keys"][me]
    (signing,) = signer["keys"].values()
    check(signer, me, master)
    check(found["device_keys"][me][device], me, signing)


def check(signed: dict[str, Any], user: str, key: str) -> None:
    """Raises when the signature is wrong (https://spec.matrix.org/v1.16/appendices/#checking-for-a-signature)."""
    bare = {name: value for name, value in signed.items() if name not in {"signatures", "unsigned"}}
    signature = Ed25519Signature.from_base64(signed["signatures"][user][f"ed25519:{key}"])
    Ed25519PublicKey.from_base64(key).verify_signature(Api.to_canonical_json(bare).encode(), signature)


async def test_an_identity_that_another_program_made_is_left_alone(
    ann: Friend, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    async with line.up():
        await secret_room(ann, line)
    (line.host.home / "identity.json").unlink()
    async with line.up():
        await secret_room(ann, line)
    assert "made by another program" in caplog.text
    found = await ann.member.ask("POST", "v3/keys/query", {"device_keys": {line.bot.id: []}})
    assert len(found["master_keys"][line.bot.id]["signatures"] if "signatures" in found["master_keys"] else "x") == 1


async def test_the_owner_verifies_the_bot_and_a_stranger_cannot(
    ann: Friend, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    line = Line(line.bot, line.host.home, owner=ann.member.id)
    async with line.up(), Member("Eve") as eve, Friend(eve) as stranger:
        room = await secret_room(ann, line)
        device = next(ann.client.device_store.active_user_devices(line.bot.id))
        with caplog.at_level(logging.WARNING):
            await ann.client.start_key_verification(device)
            await ann.until(lambda: device.verified)
        assert ann.pictures and ", ".join(ann.pictures) == ", ".join(
            one.partition(" ")[2] for one in caplog.messages[-1].partition("': ")[2].split(", ")
        )
        await line.sync_until(lambda: line.devices(ann.member.id)[ann.member.account["device_id"]].verified)
        await ann.member.ask("POST", f"v3/rooms/{part(room)}/invite", {"user_id": eve.id})
        await eve.ask("POST", f"v3/rooms/{part(room)}/join", {})
        await stranger.meet(room, 3)
        await stranger.until(lambda: line.bot.id in stranger.client.device_store.users)
        device = next(stranger.client.device_store.active_user_devices(line.bot.id))
        await stranger.client.start_key_verification(device)
        (sas,) = stranger.client.key_verifications.values()
        await stranger.until(lambda: sas.canceled)
        assert not device.verified


def test_what_is_kept_is_for_its_owners_eyes(tmp_path: Path) -> None:
    account = matrix.Account("matrix", None, tmp_path)
    key = account._pickle_key()
    assert len(key) > 40 and account._pickle_key() == key
    assert stat.S_IMODE((tmp_path / "pickle-key").stat().st_mode) == 0o600


async def test_keys_lie_encrypted_in_a_closed_folder(ann: Friend, line: Line) -> None:
    async with line.up():
        await secret_room(ann, line)
        identity = line.channel._account.client.olm.account.identity_keys["curve25519"]
    keys = line.host.home / "keys"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert stat.S_IMODE((line.host.home / "identity.json").stat().st_mode) == 0o600
    (store,) = keys.glob("*.db")
    assert b"DEFAULT_KEY" not in store.read_bytes() and identity
    assert time.time() - store.stat().st_mtime < 600
