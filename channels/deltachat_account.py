"""The account in bot.toml, and how the program is told of it."""

from __future__ import annotations

import logging
import re
import secrets
from dataclasses import dataclass
from typing import Any, Literal

from roost.channels.deltachat_core import Core, Refused
from roost.contracts import ChannelConfig
from roost.errors import ChannelError, ConfigError, LoginFailed
from roost.keys import key

log = logging.getLogger(__name__)

Tls = Literal["auto", "tls", "starttls", "none"]
SECURITY = {"auto": "", "tls": "ssl", "starttls": "starttls", "none": "plain"}
MARK = "ui.roost.mark"  # a name of ours in the database of the program, which leaves "ui." to its users
LOGIN = re.compile(r"failed to login|cannot login", re.IGNORECASE)
# https://www.rfc-editor.org/rfc/rfc5530: the server is in trouble, and says nothing about the password.
TROUBLE = re.compile(r"\[(UNAVAILABLE|SERVERBUG|INUSE|LIMIT)\]|transient|timed? ?out|connection", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaChatConfig(ChannelConfig):
    """The keys of `[channels.deltachat]`."""

    address: str = key("", help="The bot's own mail address; none with 'account'.", ask=True)
    password: str = key("", help="Its password.", secret=True, ask=True)
    account: str = key("", help="A 'dcaccount:' link of a chatmail server, which makes an account at the first start.")
    name: str = key("", help="The name that people see; the bot's own when absent.")
    imap_host: str = key("", help="The server mail is read from; found by the address when absent.")
    imap_port: int = key(0, help="Its port; the usual one when absent.", least=0, most=65535)
    imap_tls: Tls = key("auto", help="How the connection is encrypted; none only on one's own machine.")
    smtp_host: str = key("", help="The server mail is sent by; found by the address when absent.")
    smtp_port: int = key(0, help="Its port; the usual one when absent.", least=0, most=65535)
    smtp_tls: Tls = key("auto", help="The same for sending.")
    verify: bool = key(True, help="Whether the servers' certificates are checked.")
    receipts: bool = key(False, help="Whether people are told that a message was read: one more mail for each.")
    max_size: int = key(20_000_000, help="Bytes of a file beyond which it is not fetched.", least=1_000_000)
    keep_days: int = key(30, help="Days after which the program forgets messages; 0 for never.", least=0)


def check(config: DeltaChatConfig, name: str) -> None:
    """Raises ConfigError."""
    if not (config.account or (config.address and config.password)):
        raise ConfigError(
            f"bot.toml: [channels.{name}] has no 'address' with a 'password', and no 'account'. Give the bot a "
            "mail account of its own, or the 'dcaccount:' link of a chatmail server."
        )


async def set_up(core: Core, account: int, config: DeltaChatConfig, name: str) -> str:
    """Make the settings that do not depend on the server; returns the mark of this database."""
    settings = {
        "bot": "1",
        "displayname": name,
        "mdns_enabled": str(int(config.receipts)),
        "download_limit": str(2 * config.max_size),  # of a mail, which is base64 in base64
        "delete_device_after": str(config.keep_days * 86_400),
        "force_encryption": "1",
        # No connections but to the servers of this account, and none to other people's machines.
        "automatic_relay_management": "0",
        "webxdc_realtime_enabled": "0",
        "who_can_call_me": "2",
    }
    for key_, value in settings.items():
        try:
            await core.call("set_config", account, key_, value)
        except Refused as error:
            log.debug("This deltachat-rpc-server has no '%s': %s", key_, error)
    mark: str | None = await core.call("get_config", account, MARK)
    if mark is None:
        mark = secrets.token_hex(4)
        await core.call("set_config", account, MARK, mark)
    return mark


async def log_in(core: Core, account: int, config: DeltaChatConfig) -> None:
    """Tell the program of the mail account, when it is not the one that it has. Raises Refused."""
    there = await core.call("list_transports", account)
    if not config.address:
        if not there:
            await core.call("add_transport_from_qr", account, config.account)
        return
    wanted = transport(config)
    if not any(all(one.get(name) == value for name, value in wanted.items()) for one in there):
        await core.call("add_or_update_transport", account, wanted)
    if there:
        await core.call("set_config", account, "configured_addr", config.address)


def refusal(why: str, config: DeltaChatConfig, name: str) -> ChannelError:
    """What the program says of a login that did not work, as LoginFailed where the credentials are to blame."""
    why = " ".join(why.replace("Error:", "").split()).strip("“”. ")
    if config.password:
        why = why.replace(config.password, "…")
    if not LOGIN.search(why) or TROUBLE.search(why):
        return ChannelError(f"The mail account cannot be reached: {why}.")
    cure = "Correct 'address' and 'password'" if config.address else "Put the link of another server into 'account'"
    return LoginFailed(f"The mail server refuses the account ({why}). {cure} in bot.toml: [channels.{name}].")


def transport(config: DeltaChatConfig) -> dict[str, Any]:
    """The account as the program wants it: https://github.com/chatmail/core, `EnteredLoginParam`."""
    given = {
        "addr": config.address,
        "password": config.password,
        "imapServer": config.imap_host,
        "imapPort": config.imap_port,
        "imapSecurity": SECURITY[config.imap_tls],
        "smtpServer": config.smtp_host or config.imap_host,
        "smtpPort": config.smtp_port,
        "smtpSecurity": SECURITY[config.smtp_tls],
        "certificateChecks": "" if config.verify else "acceptInvalidCertificates",
    }
    return {name: value or None for name, value in given.items()}
