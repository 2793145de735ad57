"""Keys of encrypted rooms: publishing ours, signing our device, and letting the owner verify it.

Whose device may read along is decided by who is in a room, not by verification: a bot cannot compare pictures with
everybody who invites a new phone, and leaving that phone out would look like a fault. So messages are encrypted for
every device of every member. Others can verify the bot: its account has an identity that signs its device.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa
from nio import (  # type: ignore[import-untyped]
    Api,
    EncryptionError,
    KeyVerificationEvent,
    KeyVerificationKey,
    KeyVerificationMac,
    KeyVerificationStart,
    LocalProtocolError,
    ToDeviceMessage,
    UnknownToDeviceEvent,
)
from unpaddedbase64 import decode_base64, encode_base64

from roost.channels.matrix_account import Account
from roost.channels.matrix_words import Json
from roost.durable import Kept
from roost.errors import ChannelError

log = logging.getLogger(__name__)

USAGES = ("master", "self_signing", "user_signing")
FAILURES = (ChannelError, LocalProtocolError, EncryptionError)


class Keys:
    """What keeps encrypted rooms working, for one login. Does nothing where encryption is not installed."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._client = account.client
        self._signed = False
        self._verifying: list[Any] = []
        if self._client.olm is not None:
            self._client.add_to_device_callback(self._verifying.append, (KeyVerificationEvent, UnknownToDeviceEvent))

    async def tend(self) -> None:
        """Do what is due after a sync. What fails is done after the next."""
        client = self._client
        if client.olm is None:
            return
        if client.should_upload_keys:
            await self._try(client.keys_upload)
        await self.query()
        if client.should_claim_keys:
            await self._try(partial(client.keys_claim, client.get_users_for_key_claiming()))
        if not self._signed and client.olm_account_shared:
            with contextlib.suppress(ChannelError):
                await self._sign_device()
        await self._verify()
        await self._send_messages()

    async def query(self) -> None:
        """Learn of devices that are new to us."""
        if self._client.should_query_keys:
            await self._try(self._client.keys_query)

    async def _try(self, ask: Callable[[], Any]) -> None:
        try:
            await self._account.ask(ask())
        except FAILURES as error:
            log.debug("%s: %s", self._account.name, error)

    async def _send_messages(self) -> None:
        for message in list(self._client.outgoing_to_device_messages):
            await self._try(partial(self._client.to_device, message))

    # Our identity (https://spec.matrix.org/v1.16/client-server-api/#cross-signing)

    async def _sign_device(self) -> None:
        """Sign our device with the account's identity, which is made when it has none yet."""
        me, device = self._client.user_id, self._client.device_id
        found = await self._account.obtain("POST", "v3/keys/query", {"device_keys": {me: []}})
        published = found.get("master_keys", {}).get(me, {}).get("keys", {})
        identity = Identity(me, Kept(self._account.home / "identity.json"))
        if not published:
            await self._publish(identity)
        elif identity.public("master") not in published.values():
            log.warning(
                "%s: This account has an identity that was made by another program, so its other devices do not "
                "trust this one. Verify the device '%s' from there.",
                self._account.name,
                device,
            )
            self._signed = True
            return
        keys = found.get("device_keys", {}).get(me, {}).get(device)
        if keys is None:  # the server forgets a device's keys when its session ends
            self._client.olm.account.shared = False
            await self._try(self._client.keys_upload)
            return
        signer = f"ed25519:{identity.public('self_signing')}"
        if signer not in keys.get("signatures", {}).get(me, {}):
            signed = identity.sign(keys, "self_signing")
            await self._account.obtain("POST", "v3/keys/signatures/upload", {me: {device: signed}})
        self._signed = True

    async def _publish(self, identity: Identity) -> None:
        """Publish the identity. A server may want the password for it."""
        path, keys = "v3/keys/device_signing/upload", identity.published()
        status, answer = await self._account.send("POST", path, keys)
        if status == 401 and "session" in answer and self._account.config.password:
            user = {"type": "m.id.user", "user": self._client.user_id}
            login = {"type": "m.login.password", "identifier": user, "password": self._account.config.password}
            auth = login | {"session": answer["session"]}
            status, answer = await self._account.send("POST", path, keys | {"auth": auth})
        if status != 200:
            log.warning(
                "%s: The server did not take an identity for this account (%s), so some programs will call its "
                "messages untrusted.",
                self._account.name,
                answer.get("errcode", status),
            )
            raise self._account.meaning(status, str(answer.get("errcode", "")), str(answer.get("error", "")), None)

    # Verification (https://spec.matrix.org/v1.16/client-server-api/#short-authentication-string-sas-verification)

    async def _verify(self) -> None:
        events, self._verifying[:] = list(self._verifying), []
        for event in events:
            try:
                if event.sender in {self._client.user_id, self._account.config.owner}:
                    await self._step(event)
                elif isinstance(event, KeyVerificationStart):
                    await self._client.cancel_key_verification(event.transaction_id)
            except (*FAILURES, KeyError, TypeError, AttributeError, OSError) as error:
                log.info("%s: The verification broke off (%s).", self._account.name, type(error).__name__)

    async def _step(self, event: Any) -> None:
        client = self._client
        if isinstance(event, UnknownToDeviceEvent):
            if event.source["type"] == "m.key.verification.request":
                client.olm.users_for_key_query.add(event.sender)
                await self.query()
                content = event.source["content"]
                await self._tell(event.sender, content["from_device"], content["transaction_id"], "ready")
        elif isinstance(event, KeyVerificationStart):
            await self._account.ask(client.accept_key_verification(event.transaction_id))
        elif isinstance(event, KeyVerificationKey):
            sas = client.key_verifications[event.transaction_id]
            pictures = ", ".join(f"{emoji} {name}" for emoji, name in sas.get_emoji())
            device = sas.other_olm_device.id
            log.warning("%s: %s compares with '%s': %s", self._account.name, event.sender, device, pictures)
            await self._send_messages()
            await self._account.ask(client.confirm_short_auth_string(event.transaction_id))
        elif isinstance(event, KeyVerificationMac):
            sas = client.key_verifications[event.transaction_id]
            if sas.verified:
                await self._tell(event.sender, sas.other_olm_device.id, event.transaction_id, "done")

    async def _tell(self, user: str, device: str, transaction: str, step: str) -> None:
        content: Json = {"transaction_id": transaction}
        if step == "ready":
            content |= {"from_device": self._client.device_id, "methods": ["m.sas.v1"]}
        message = ToDeviceMessage(f"m.key.verification.{step}", user, device, content)
        await self._account.ask(self._client.to_device(message))


class Identity:
    """The three keys of an account, made up once and kept: who has them can speak for the account."""

    def __init__(self, user: str, kept: Kept) -> None:
        self._user = user
        if not set(USAGES) <= set(kept.all()):
            kept.replace({usage: encode_base64(ECC.generate(curve="Ed25519").seed) for usage in USAGES})
        self._keys = {usage: eddsa.import_private_key(decode_base64(kept.get(usage))) for usage in USAGES}

    def public(self, usage: str) -> str:
        key = self._keys[usage].public_key().export_key(format="raw")
        return str(encode_base64(key))

    def published(self) -> Json:
        """The public keys, the second and the third signed by the first."""
        keys = {usage: self._described(usage) for usage in USAGES}
        signed = {usage: keys[usage] if usage == "master" else self.sign(keys[usage], "master") for usage in USAGES}
        return {f"{usage}_key": key for usage, key in signed.items()}

    def _described(self, usage: str) -> Json:
        public = self.public(usage)
        return {"user_id": self._user, "usage": [usage], "keys": {f"ed25519:{public}": public}}

    def sign(self, content: Json, usage: str) -> Json:
        """The object with our signature (https://spec.matrix.org/v1.16/appendices/#signing-json)."""
        bare = {name: value for name, value in content.items() if name not in {"signatures", "unsigned"}}
        signature = eddsa.new(self._keys[usage], "rfc8032").sign(Api.to_canonical_json(bare).encode())
        return bare | {"signatures": {self._user: {f"ed25519:{self.public(usage)}": encode_base64(signature)}}}
