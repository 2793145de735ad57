"""The keys of a channel that speaks SMPP, and what cannot be right about them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from roost.channels.smpp_text import Alphabet, Cut
from roost.contracts import ChannelConfig
from roost.errors import ConfigError
from roost.keys import key

PERSON: Final = re.compile(r"\+[1-9]\d{6,14}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SmppConfig(ChannelConfig):
    """The keys of `[channels.smpp]`."""

    host: str = key(help="The SMSC's host name or address, from your operator.")
    port: int = key(2775, help="Its port; with tls often 3550.", least=1, most=65535, ask=True)
    system_id: str = key(help="The name to log in with.")
    password: str = key(help="The password that goes with it.", secret=True)
    number: str = key(help="What the bot writes from: a number such as '+15551234567', a short code or a name.")
    tls: bool = key(False, help="Whether the connection is encrypted, and the SMSC's certificate checked.", ask=True)
    ca: str = key("", help="A file with the certificate to check it by, where the operator has one of its own.")
    bind: Literal["transceiver", "separate"] = key(
        "transceiver", help="One session for both directions, or one for each: a receiver and a transmitter."
    )
    system_type: str = key("", help="The system_type of the bind, where the operator asks for one.")
    service_type: str = key("", help="The service_type of messages, where the operator asks for one.", most=5)
    address_range: str = key("", help="The address_range of the bind, where the operator asks for one.")
    source_ton: int | None = key(None, help="The type of `number`; by its form when absent.", least=0, most=255)
    source_npi: int | None = key(None, help="The numbering plan of `number`; by its form.", least=0, most=255)
    country: str = key("", help="Your calling code, such as '44', where the operator writes numbers without it.")
    trunk: str = key("0", help="What such a number begins with at home and loses abroad.")
    alphabet: Alphabet = key("gsm7", help="What the operator reads data_coding 0 as: gsm7, gsm7-packed or latin1.")
    long: Cut = key(
        "udh",
        help="How a long message travels: in parts with a header (udh, or udh16 for references of 16 bits), "
        "in parts with parameters (sar), or whole (payload).",
    )
    segments: int = key(10, help="The most segments one message may take; each is paid for.", least=1, most=24)
    patience: float = key(600.0, help="Seconds to wait for the rest of a long message.", least=0.05, most=86_400)
    receipts: bool = key(True, help="Whether to ask for delivery receipts; what failed becomes a dead letter.")
    stop_words: list[str] = key(
        factory=lambda: ["STOP", "STOPALL", "UNSUBSCRIBE"],
        help="Words with which somebody wants no more messages; [] where the operator sees to that.",
    )
    stopped: str = key(
        "You will get no more messages. Text START to begin again.", help="The answer to such a word; '' for none."
    )
    keepalive: float = key(30.0, help="Seconds of silence before an enquire_link.", least=0.05, most=600)
    timeout: float = key(20.0, help="Seconds the SMSC may take to answer.", least=0.05, most=300)
    window: int = key(10, help="Messages under way at once that the SMSC has not answered.", least=1, most=1000)


def check(config: SmppConfig, name: str) -> None:
    """Raises ConfigError for what an SMSC would refuse only later, and in other words."""
    table = f"bot.toml: [channels.{name}]"
    for one, most in (("system_id", 15), ("password", 64), ("system_type", 12), ("address_range", 40)):
        value = getattr(config, one)
        if not value.isascii() or "\0" in value or len(value) > most:
            raise ConfigError(f"{table}: '{one}' has more than {most} characters, or others than plain ASCII.")
    if not config.host or not config.system_id:
        raise ConfigError(f"{table} needs 'host' and 'system_id'. Your operator gives both.")
    if not (PERSON.fullmatch(config.number) or re.fullmatch(r"[ -~]{1,11}", config.number)):
        raise ConfigError(
            f"{table} number = '{config.number}' is neither a number with its country, such as '+15551234567', "
            "nor a short code, nor a name of up to 11 letters."
        )
    if config.country and not re.fullmatch(r"[1-9]\d{0,2}", config.country):
        raise ConfigError(f"{table} country = '{config.country}' is no calling code, such as '44'.")
