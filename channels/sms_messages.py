"""What Twilio posts to a webhook, verified and read as messages. Pure functions.

https://www.twilio.com/docs/messaging/guides/webhook-request
"""

from __future__ import annotations

import json
import mimetypes
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from multidict import MultiDict
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from roost.values import Attachment, AttachmentKind, Event, Message, Person, Place, Quote
from roost.writing import escape

WHATSAPP = "whatsapp:"
MAX_MEDIA = 100  # files of one message that are looked at
PERSON = re.compile(r"(whatsapp:)?\+[1-9]\d{6,14}|(messenger|rcs):\S{1,100}")
MEDIA = re.compile(r"/2010-04-01/Accounts/AC\w{32}/Messages/\w{34}/Media/ME\w{32}")
SPOKEN = ("audio/ogg", "audio/amr")  # what phones record
# https://help.twilio.com/articles/223134027; the reply is Twilio's own. "YES" means START only to whoever had stopped.
STOP = frozenset({"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"})
START = frozenset({"START", "UNSTOP"})
STOP_WHATSAPP = frozenset({"STOP", "STOPALL", "UNSUBSCRIBE", "OPTOUT"})  # Twilio itself heeds none of them there

Form = Mapping[str, str]


# Coming in


def fields(content_type: str, body: bytes) -> MultiDict[str]:
    """The fields of a webhook: a form, or JSON where Twilio was told so. Raises ValueError."""
    text = body.decode()
    if content_type != "application/json":
        return MultiDict(parse_qsl(text, keep_blank_values=True, max_num_fields=1000))
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("This is no JSON object.")
    return MultiDict({name: str(value) for name, value in found.items()})


def signed(token: str, url: str, content_type: str, body: bytes, signature: str) -> bool:
    """Whether Twilio signed a request: its public address and fields, or the address with the hash of a JSON body.

    https://www.twilio.com/docs/usage/security#validating-requests
    """
    if not (token and signature and signature.isascii()):
        return False
    try:
        # Without its hash in the address, a JSON body would not be covered by the signature.
        by_hash = content_type == "application/json"
        if by_hash and "bodySHA256=" not in urlsplit(url).query:
            return False
        covered: Any = body.decode() if by_hash else fields(content_type, body)
        return bool(RequestValidator(token).validate(url, covered, signature))
    except ValueError:
        return False


def read(form: Form, channel: str, own: Collection[str], at: float) -> Message | Event | None:
    """A message that came in; an event for STOP and START, to which nobody but Twilio answers; None for our own.

    Raises KeyError for what is no message.
    """
    id, address = form["MessageSid"], form["From"]
    if not id:
        raise KeyError("MessageSid")
    if address in own:
        return None
    place = Place(channel, address, kind="direct" if is_person(address) else "broadcast")
    sender = Person(channel, address, form.get("ProfileName", ""))
    if word := consent(form):
        # Without a time: a second look at the same message has another, and must be the same event.
        return Event("left" if word == "STOP" else "joined", place, sender, message_id=id, value=word)
    files = tuple(attachments(form))
    quoted = form.get("OriginalRepliedMessageSid", "")
    return Message(
        id=id,
        place=place,
        sender=sender,
        text=read_text(form, files),
        at=at,
        addressed=place.kind == "direct",
        quote=Quote(quoted) if quoted else None,
        attachments=files,
        raw=form,
    )


def undelivered(form: Form, channel: str) -> Event | None:
    """What a report of Twilio's says of a message that did not arrive; None for all others.

    https://www.twilio.com/docs/messaging/guides/track-outbound-message-status
    """
    if form.get("MessageStatus") not in ("failed", "undelivered") or not form.get("MessageSid"):
        return None
    place = Place(channel, form.get("To", ""))
    code = form.get("ErrorCode", "")
    why = f": error {code}, https://www.twilio.com/docs/api/errors/{code}" if code.isdecimal() else ""
    return Event("undelivered", place, message_id=form["MessageSid"], value=f"Twilio could not deliver it{why}.")


def is_person(address: str) -> bool:
    """Whether somebody may read an answer; short codes and names such as 'BANK' are machines that only send."""
    return PERSON.fullmatch(address) is not None


def consent(form: Form) -> str:
    """STOP or START where a message means that to Twilio, else nothing. HELP is a question like any other."""
    if told := form.get("OptOutType", "").upper():
        return told if told in {"STOP", "START"} else ""
    said = form.get("Body", "").strip().upper()
    if form["From"].startswith(WHATSAPP):
        return "STOP" if said in STOP_WHATSAPP else ""
    return "STOP" if said in STOP else "START" if said in START else ""


def read_text(form: Form, files: Collection[Attachment]) -> str:
    """The words of a message as Markdown, and what is not words in brackets."""
    said = form.get("ButtonPayload") or form.get("Body", "")
    lines = [escape(line) for line in said.replace("\r\n", "\n").split("\n")] if said else []
    if form.get("Latitude") and form.get("Longitude"):
        where = [form["Latitude"], form["Longitude"], form.get("Label", ""), form.get("Address", "")]
        lines.append(f"[location {', '.join(part for part in where if part)}]")
    lost = count(form) - len(files)
    lines += ["[file]"] * lost
    if not lines and not files:
        lines.append(f"[{form.get('MessageType') or 'empty message'}]")
    return "\n".join(lines)


def count(form: Form) -> int:
    number = form.get("NumMedia", "0")
    return min(int(number), MAX_MEDIA) if number.isdecimal() else 0


def attachments(form: Form) -> Iterator[Attachment]:
    for number in range(count(form)):
        path = urlsplit(form.get(f"MediaUrl{number}", "")).path
        if not MEDIA.fullmatch(path):
            continue
        mime = form.get(f"MediaContentType{number}", "").lower() or "application/octet-stream"
        kind = kind_of(mime)
        yield Attachment(kind, f"{kind}-{number + 1}{extension(mime)}", mime, ref=path)


def kind_of(mime: str) -> AttachmentKind:
    if mime in SPOKEN:
        return "voice"
    kinds: dict[str, AttachmentKind] = {"image": "image", "audio": "audio", "video": "video"}
    return kinds.get(mime.partition("/")[0], "file")


def extension(mime: str) -> str:
    return mimetypes.guess_extension(mime.partition(";")[0].strip()) or ""


def as_form(row: Mapping[str, Any], media: Collection[Mapping[str, Any]]) -> dict[str, str]:
    """A message as Twilio lists it, and its media, in the words of the webhook."""
    form = {name: str(row.get(key) or "") for name, key in ROW.items()}
    for number, one in enumerate(media):
        form[f"MediaUrl{number}"] = str(one.get("uri") or "").removesuffix(".json")
        form[f"MediaContentType{number}"] = str(one.get("content_type") or "")
    return form


def as_status(row: Mapping[str, Any]) -> dict[str, str]:
    """What has become of a message, as Twilio lists it, in the words of a report."""
    sent = str(row.get("direction") or "").startswith("outbound")
    return {name: str(row.get(key) or "") for name, key in STATUS.items()} if sent else {}


STATUS = {"MessageSid": "sid", "To": "to", "MessageStatus": "status", "ErrorCode": "error_code"}
ROW = {"MessageSid": "sid", "From": "from", "To": "to", "Body": "body", "NumMedia": "num_media"}
