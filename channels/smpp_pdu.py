"""The packets of SMPP 3.4 that a bot needs, as bytes and as values. Pure functions.

Section numbers are those of the "Short Message Peer to Peer Protocol Specification v3.4", issue 1.2,
https://smpp.org/SMPP_v3_4_Issue1_2.pdf
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

HEADER: Final = struct.Struct("!IIII")
LONGEST: Final = 70_000  # octets of a packet; message_payload may have 64 K

# Section 5.1.2.1
NACK = 0x80000000
BIND_RECEIVER, BIND_TRANSMITTER, BIND_TRANSCEIVER = 0x01, 0x02, 0x09
SUBMIT, DELIVER, UNBIND, ENQUIRE, DATA, ALERT = 0x04, 0x05, 0x06, 0x15, 0x103, 0x102
ANSWER = 0x80000000  # is set in the answer to a command

# Section 5.1.3
OK, BAD_LENGTH, BAD_COMMAND, WRONG_STATE, ALREADY_BOUND = 0x00, 0x02, 0x03, 0x04, 0x05
SYSTEM_ERROR, BIND_FAILED, BAD_PASSWORD, BAD_SYSTEM_ID = 0x08, 0x0D, 0x0E, 0x0F
QUEUE_FULL, THROTTLED, TEMPORARY, REJECTED = 0x14, 0x58, 0x64, 0x66
STATUS: Final[Mapping[int, str]] = {
    0x01: "ESME_RINVMSGLEN",
    0x02: "ESME_RINVCMDLEN",
    0x03: "ESME_RINVCMDID",
    0x04: "ESME_RINVBNDSTS",
    0x05: "ESME_RALYBND",
    0x06: "ESME_RINVPRTFLG",
    0x07: "ESME_RINVREGDLVFLG",
    0x08: "ESME_RSYSERR",
    0x0A: "ESME_RINVSRCADR",
    0x0B: "ESME_RINVDSTADR",
    0x0D: "ESME_RBINDFAIL",
    0x0E: "ESME_RINVPASWD",
    0x0F: "ESME_RINVSYSID",
    0x14: "ESME_RMSGQFUL",
    0x15: "ESME_RINVSERTYP",
    0x43: "ESME_RINVESMCLASS",
    0x45: "ESME_RSUBMITFAIL",
    0x48: "ESME_RINVSRCTON",
    0x49: "ESME_RINVSRCNPI",
    0x50: "ESME_RINVDSTTON",
    0x51: "ESME_RINVDSTNPI",
    0x53: "ESME_RINVSYSTYP",
    0x58: "ESME_RTHROTTLED",
    0x64: "ESME_RX_T_APPN",
    0x65: "ESME_RX_P_APPN",
    0x66: "ESME_RX_R_APPN",
    0xC2: "ESME_RINVPARLEN",
    0xC3: "ESME_RMISSINGOPTPARAM",
    0xC4: "ESME_RINVOPTPARAMVAL",
    0xFE: "ESME_RDELIVERYFAILURE",
    0xFF: "ESME_RUNKNOWNERR",
}
# The message or its receiver is at fault, so that a second try would end alike.
FINAL: Final = frozenset(
    {0x01, 0x06, 0x07, 0x0A, 0x0B, 0x15, 0x43, 0x48, 0x49, 0x50, 0x51, 0x65, 0x66, *range(0xC0, 0xC5)}
)

# Section 5.3.2
RECEIPTED_ID, MESSAGE_STATE, PAYLOAD = 0x001E, 0x0427, 0x0424
SAR_REFERENCE, SAR_TOTAL, SAR_NUMBER = 0x020C, 0x020E, 0x020F

UDHI = 0x40  # in esm_class: the message begins with a user data header (section 5.2.12)
INTERNATIONAL, NATIONAL, ALPHANUMERIC, ABBREVIATED = 1, 2, 5, 6  # types of number (section 5.2.5)


class Pdu(NamedTuple):
    """One packet: its header without the length, and its body."""

    command: int
    status: int
    sequence: int
    body: bytes = b""


class Address(NamedTuple):
    """A number with its type and its numbering plan."""

    ton: int
    npi: int
    number: str


@dataclass(frozen=True, slots=True)
class Short:
    """A short message on its way: what submit_sm, deliver_sm and data_sm have in common.

    `data` is short_message or message_payload, whichever carries something.
    """

    source: Address
    target: Address
    data: bytes = b""
    coding: int = 0
    esm: int = 0
    receipt: int = 0
    service: str = ""
    options: Mapping[int, bytes] = field(default_factory=dict)


def name(status: int) -> str:
    """What the specification calls a status; operators' own are numbers."""
    return STATUS.get(status, f"status 0x{status:08x}")


def pack(pdu: Pdu) -> bytes:
    return HEADER.pack(HEADER.size + len(pdu.body), pdu.command, pdu.status, pdu.sequence) + pdu.body


def text(value: str) -> bytes:
    """A C-octet string (section 3.1)."""
    return value.encode("ascii") + b"\0"


def bind(system_id: str, password: str, system_type: str, address_range: str) -> bytes:
    """The body of all three commands that bind (section 4.1)."""
    return text(system_id) + text(password) + text(system_type) + bytes((0x34, 0, 0)) + text(address_range)


def submit(short: Short) -> bytes:
    """The body of submit_sm (section 4.4.1). What short_message cannot hold goes into message_payload."""
    options = dict(short.options)
    data = b"" if PAYLOAD in options else short.data
    return b"".join((
        text(short.service),
        *(bytes((one.ton, one.npi)) + text(one.number) for one in (short.source, short.target)),
        bytes((short.esm, 0, 0)),  # with protocol_id and priority_flag
        b"\0\0",  # at once, valid as long as the operator likes
        bytes((short.receipt, 0, short.coding, 0, len(data))),
        data,
        *(struct.pack("!HH", tag, len(value)) + value for tag, value in options.items()),
    ))  # fmt: skip


class Reader:
    """Takes a body apart. Raises ValueError where it ends too soon."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def octets(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._body):
            raise ValueError("it ends in the middle of a field.")
        found, self._at = self._body[self._at : end], end
        return found

    def octet(self) -> int:
        return self.octets(1)[0]

    def text(self) -> str:
        end = self._body.find(b"\0", self._at)
        if end < 0:
            raise ValueError("a text in it has no end.")
        found = self.octets(end - self._at)
        self._at += 1
        return found.decode("latin-1")

    def address(self) -> Address:
        return Address(self.octet(), self.octet(), self.text())

    def options(self) -> dict[int, bytes]:
        """The optional parameters, to the end of the body (section 3.2.4)."""
        found: dict[int, bytes] = {}
        while self._at < len(self._body):
            tag, length = struct.unpack("!HH", self.octets(4))
            found[tag] = self.octets(length)
        return found


def read_short(pdu: Pdu) -> Short:
    """What deliver_sm (section 4.6.1) or data_sm (section 4.7.1) brings. Raises ValueError."""
    reader = Reader(pdu.body)
    service, source, target = reader.text(), reader.address(), reader.address()
    esm = reader.octet()
    if pdu.command == DATA:
        receipt, coding, data = reader.octet(), reader.octet(), b""
    else:
        reader.octets(2)
        reader.text(), reader.text()
        receipt, _, coding, _, length = reader.octets(5)
        data = reader.octets(length)
    options = reader.options()
    return Short(source, target, data or options.get(PAYLOAD, b""), coding, esm, receipt, service, options)


def read_id(pdu: Pdu) -> str:
    """The message's id in an answer to submit_sm; some operators leave out the octet that ends it."""
    return pdu.body.partition(b"\0")[0].decode("latin-1")
