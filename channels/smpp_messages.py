"""Messages of SMPP as Roost's, and Roost's replies as packets of SMPP. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from roost.channels.smpp_config import PERSON, SmppConfig
from roost.channels.smpp_inbox import Whole
from roost.channels.smpp_pdu import (
    ABBREVIATED,
    ALPHANUMERIC,
    INTERNATIONAL,
    MESSAGE_STATE,
    NATIONAL,
    PAYLOAD,
    RECEIPTED_ID,
    SAR_NUMBER,
    SAR_REFERENCE,
    SAR_TOTAL,
    UDHI,
    Address,
    Short,
)
from roost.channels.smpp_text import UCS2, Alphabet, Part, coding, cut, decode, encode, kind, read_header, udh
from roost.channels.sms_segments import segments, surely
from roost.dialects import PLAIN, render
from roost.errors import Undeliverable
from roost.split import split
from roost.values import Event, Message, Person, Place, Reply
from roost.writing import escape

SHORT_CODE: Final = re.compile(r"\d{3,8}")
# The fields of Appendix B in whatever order; what follows "text:" is the message's own.
RECEIPT: Final = re.compile(r"(?<!\S)(id|stat|err): ?(\w\S*)", re.I)
# Section 5.2.28, in the words of Appendix B.
STATES: Final[Mapping[int, str]] = dict(
    enumerate(("ENROUTE", "DELIVRD", "EXPIRED", "DELETED", "UNDELIV", "ACCEPTD", "UNKNOWN", "REJECTD"), start=1)
)
FAILED: Final = frozenset({"EXPIRED", "DELETED", "UNDELIV", "REJECTD"})
# Words that operators write instead, by how they begin.
LIKE: Final[Mapping[str, str]] = {
    "UNDELIV": "UNDELIV", "FAIL": "UNDELIV", "REJECT": "REJECTD", "EXPIRE": "EXPIRED", "DELETE": "DELETED"
}  # fmt: skip
START: Final = frozenset({"START", "UNSTOP"})


class Receipt(NamedTuple):
    """What became of a message; `state` is one word of Appendix B."""

    id: str
    state: str
    error: str = ""


# Numbers


def number(address: Address, country: str, trunk: str) -> str:
    """An address as E.164 with its plus, where it is a person's number; as it came otherwise.

    National numbers need `country`, a calling code such as "44", and lose `trunk`, such as "0".
    """
    digits = address.number.removeprefix("+")
    if not digits.isdecimal() or address.ton in (ALPHANUMERIC, ABBREVIATED):
        return address.number
    if address.number.startswith("+") or address.ton == INTERNATIONAL:
        return f"+{digits}"
    if digits.startswith("00"):
        return f"+{digits[2:]}"
    if country and (address.ton == NATIONAL or (trunk and digits.startswith(trunk))):
        return f"+{country}{digits.removeprefix(trunk)}"
    # Most operators leave the type unknown and write a number with its country; short codes are shorter.
    return f"+{digits}" if address.ton == 0 and PERSON.fullmatch(f"+{digits}") and len(digits) > 8 else digits


def own_address(keys: SmppConfig) -> Address:
    """What the bot writes from: a number, a short code or a name; bot.toml may say which type it has."""
    digits = keys.number.removeprefix("+")
    ton, npi = (INTERNATIONAL, 1) if keys.number.startswith("+") else (3, 0) if digits.isdecimal() else (5, 0)
    ton = ton if keys.source_ton is None else keys.source_ton
    return Address(ton, npi if keys.source_npi is None else keys.source_npi, digits)


# Coming in


def receipt(short: Short) -> Receipt | None:
    """What a delivery receipt says: its parameters, or the text of Appendix B where there are none."""
    told = RECEIPTED_ID in short.options and MESSAGE_STATE in short.options
    if short.esm & 0x3C not in (0x04, 0x20) and not told:
        return None
    fields = receipt_fields(short)
    id, state, error = (fields.get(one, "") for one in ("id", "stat", "err"))
    if RECEIPTED_ID in short.options:
        id = short.options[RECEIPTED_ID].rstrip(b"\0").decode("latin-1")
    if MESSAGE_STATE in short.options:
        state = STATES.get(int.from_bytes(short.options[MESSAGE_STATE]), "UNKNOWN")
    return Receipt(id, state, error)


def receipt_fields(short: Short) -> dict[str, str]:
    """The fields of a receipt's text by their names in small letters; the first of each."""
    said = short.data.decode("utf-16-be" if kind(short.coding) == UCS2 else "latin-1", "replace")
    said = re.split(r"\btext:", said, maxsplit=1, flags=re.I)[0]
    found: dict[str, str] = {}
    for name, value in RECEIPT.findall(said):
        found.setdefault(name.lower(), value)
    if word := found.get("stat", "").upper():
        found["stat"] = next((state for begin, state in LIKE.items() if word.startswith(begin)), word)
    return found


def undelivered(told: Receipt, short: Short, channel: str, keys: SmppConfig) -> Event | None:
    """What a receipt says of a message that did not arrive; None where it did, or nobody knows."""
    if told.state not in FAILED or not told.id:
        return None
    place = Place(channel, number(short.source, keys.country, keys.trunk) or "unknown")
    why = f"The SMSC could not deliver it: {told.state}, error {told.error or 'unknown'}."
    return Event("undelivered", place, message_id=told.id, value=why)


def read(whole: Whole, channel: str, own: Collection[str], keys: SmppConfig, at: float) -> Message | Event | None:
    """A message; an event for STOP and START; None for our own words."""
    first = next(iter(whole.parts.values()))
    address = number(first.source, keys.country, keys.trunk)
    if address in own:
        return None
    address = address or "unknown"
    direct = PERSON.fullmatch(address) is not None
    place = Place(channel, address, kind="direct" if direct else "broadcast")
    sender = Person(channel, address)
    text = words(whole, keys.alphabet)
    if direct and (word := consent(text, keys.stop_words)):
        return Event("left" if word == "STOP" else "joined", place, sender, message_id=whole.key, value=word)
    return Message(whole.key, place, sender, text, at, addressed=direct, key=whole.key)


def consent(text: str, stop_words: Collection[str]) -> str:
    """STOP or START where a message is nothing but such a word."""
    said = text.strip().upper()
    return "STOP" if said in {word.upper() for word in stop_words} else "START" if said in START else ""


def words(whole: Whole, alphabet: Alphabet) -> str:
    """The text of a message as Markdown; what is missing and what is no text stands in brackets."""
    found = "".join(pieces(whole, alphabet))
    return found if found.strip() else "[empty message]"


def pieces(whole: Whole, alphabet: Alphabet) -> Iterator[str]:
    """Parts of one coding are read together: a character may begin in one and end in the next."""
    run, code = b"", -1
    for at in range(1, whole.total + 1):
        part = whole.parts.get(at)
        if part is None or part.coding != code or packed(code, alphabet):
            yield shown(run, code, alphabet)
            run = b""
        if part is None:
            yield f"[part {at} of {whole.total} is missing]"
            code = -1
            continue
        code = part.coding
        header = read_header(part.data) if part.esm & UDHI else None
        data = part.data[header.length :] if header else part.data
        if header and header.port:
            yield f"[data for a program, {len(data)} bytes]"
        elif packed(code, alphabet):
            yield shown(data, code, alphabet, header.length if header else 0)
        else:
            run += data
    yield shown(run, code, alphabet)


def packed(code: int, alphabet: Alphabet) -> bool:
    return code >= 0 and kind(code) == 0 and alphabet == "gsm7-packed"


def shown(data: bytes, code: int, alphabet: Alphabet, offset: int = 0) -> str:
    if not data:
        return ""
    text = decode(data, code, alphabet, offset)
    if text is None:
        return f"[binary message, {len(data)} bytes]"
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    return "\n".join(escape(line) for line in text.split("\n"))


# Going out


def write(place: Place, reply: Reply, keys: SmppConfig, reference: int) -> list[Short]:
    """The packets that a reply becomes, each of one segment or, in message_payload, of several.

    Each text of its own has the next reference. Raises Undeliverable.
    """
    if not (PERSON.fullmatch(place.chat) or SHORT_CODE.fullmatch(place.chat)):
        raise Undeliverable(f"'{place}' is no number. One looks like '{place.channel}:+15551234567'.")
    digits = place.chat.removeprefix("+")
    target = Address(INTERNATIONAL, 1, digits) if place.chat.startswith("+") else Address(0, 1, digits)
    envelope = Short(own_address(keys), target, receipt=int(keys.receipts), service=keys.service_type)
    texts = write_text(reply.text, keys.segments)
    return [one for at, text in enumerate(texts) for one in write_parts(envelope, text, keys, reference + at)]


def write_text(text: str, most: int) -> list[str]:
    """Plain texts of at most `most` segments each."""
    plain = render(text, PLAIN)
    if not plain.strip():
        return []
    if segments(plain) <= most:
        return [plain]
    return [render(piece, PLAIN) for piece in split(text, PLAIN, surely(most), "utf16")]


def write_parts(envelope: Short, text: str, keys: SmppConfig, reference: int) -> list[Short]:
    """One text: a packet, or the parts of a long message that the phone puts together."""
    code = coding(text, keys.alphabet)
    parts = cut(text, code, keys.long)
    envelope = replace(envelope, coding=code)
    if len(parts) == 1:
        data = encode(text, code, keys.alphabet)
        # Section 5.2.21: short_message holds 254 octets.
        options = {PAYLOAD: data} if segments(text) > 1 or len(data) > 254 else {}
        return [replace(envelope, data=data, options=options)]
    return [
        write_part(envelope, part, Part(reference, len(parts), at, "16" if keys.long == "udh16" else "8"), keys)
        for at, part in enumerate(parts, start=1)
    ]


def write_part(envelope: Short, text: str, part: Part, keys: SmppConfig) -> Short:
    reference = part.reference % (256 if keys.long == "udh" else 65_536)
    if keys.long == "sar":
        numbers = {SAR_REFERENCE: reference.to_bytes(2), SAR_TOTAL: bytes((part.total,))}
        options = {**numbers, SAR_NUMBER: bytes((part.number,))}
        return replace(envelope, data=encode(text, envelope.coding, keys.alphabet), options=options)
    header = udh(part._replace(reference=reference))
    data = header + encode(text, envelope.coding, keys.alphabet, len(header))
    return replace(envelope, data=data, esm=envelope.esm | UDHI)
