"""What Twilio refuses, and by which error: https://www.twilio.com/docs/api/errors"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from servers.sms import TwilioServer

# The parameters of CreateMessageRequest in the OpenAPI document.
PARAMETERS = """
To StatusCallback ApplicationSid MaxPrice ProvideFeedback Attempt ValidityPeriod ForceDelivery ContentRetention
AddressRetention SmartEncoded PersistentAction TrafficType ShortenUrls ScheduleType SendAt SendAsMms ContentVariables
RiskCheck From FallbackFrom MessagingServiceSid Body MediaUrl ContentSid
"""
KNOWN = set(PARAMETERS.split())
REPEATED = {"MediaUrl", "PersistentAction"}
GSM = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM_TWICE = "\f^{}\\[~]|€"
PHONE = re.compile(r"\+[1-9][0-9]{6,14}")
LANDLINE = "+15005550009"  # of Twilio's magic numbers: cannot receive SMS


class Refused(Exception):
    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def segments_of(body: str) -> int:
    """https://www.twilio.com/docs/glossary/what-sms-character-limit"""
    if not body:
        return 1
    if all(letter in GSM + GSM_TWICE for letter in body):
        sizes, whole, part = [2 if letter in GSM_TWICE else 1 for letter in body], 160, 153
    else:
        sizes, whole, part = [len(letter.encode("utf-16-le")) // 2 for letter in body], 70, 67
    if sum(sizes) <= whole:
        return 1
    count, used = 1, 0
    for size in sizes:
        if used + size > part:
            count, used = count + 1, 0
        used += size
    return count


def check_send(server: TwilioServer, fields: list[tuple[str, str]]) -> tuple[str, str]:
    """Refuse what cannot be sent; returns the sender, empty where a service chooses it, and the service."""
    names = [name for name, _ in fields]
    if unknown := set(names) - KNOWN:
        server.complaints.append(f"A message was made with {sorted(unknown)}.")
    if twice := {name for name in names if names.count(name) > 1} - REPEATED:
        server.complaints.append(f"A message was made with {sorted(twice)} twice.")
    given = dict(fields)
    sender, service, to = given.get("From", ""), given.get("MessagingServiceSid", ""), given.get("To", "")
    if not to:
        raise Refused(400, 21604, "A 'To' phone number is required.")
    check_sender(server, sender, service)
    check_target(server, sender, to)
    check_content(given.get("Body", ""), [value for name, value in fields if name == "MediaUrl"], to)
    if callback := given.get("StatusCallback"):
        check_url(callback, Refused(400, 21609, f"The StatusCallback URL {callback} is not a valid URL."))
    pool = {sender} if sender else server.services[service]
    if any((to, one) in server.stopped for one in pool):
        raise Refused(400, 21610, "Attempt to send to unsubscribed recipient")
    return sender or sorted(pool)[0], service


def check_sender(server: TwilioServer, sender: str, service: str) -> None:
    if not (sender or service):
        raise Refused(400, 21603, "A 'From' phone number is required.")
    if service and service not in server.services:
        raise Refused(404, 20404, f"The requested resource {service} was not found")
    if service and sender and sender not in server.services[service]:
        raise Refused(400, 21712, f"Phone number {sender} is not associated with the Messaging Service.")
    if sender.startswith("whatsapp:"):
        if sender not in server.whatsapp:
            raise Refused(400, 63007, "Twilio could not find a Channel with the specified From address")
    elif sender and sender not in server.numbers:
        raise Refused(400, 21606, f"The 'From' phone number {sender} is not a valid message-capable Twilio number.")


def check_target(server: TwilioServer, sender: str, to: str) -> None:
    if sender and to.startswith("whatsapp:") != sender.startswith("whatsapp:"):
        raise Refused(400, 21910, "Invalid From and To pair. From and To should be of the same channel")
    if not PHONE.fullmatch(to.removeprefix("whatsapp:")):
        raise Refused(400, 21211, f"Invalid 'To' Phone Number: {to}")
    if to == LANDLINE:
        raise Refused(400, 21614, "'To' number is not a valid mobile number")
    if to == sender:
        raise Refused(400, 21266, "'To' and 'From' number cannot be the same")


def check_content(body: str, media: list[str], to: str) -> None:
    if not body.strip() and not media:
        raise Refused(400, 21602, "Message body is required.")
    if len(body.encode("utf-16-le")) // 2 > 1600:
        raise Refused(400, 21617, "The concatenated message body exceeds the 1600 character limit")
    if len(media) > (1 if to.startswith("whatsapp:") else 10):
        raise Refused(400, 21623, "Number of media files exceeds allowed limit")
    for url in media:
        check_url(url, Refused(400, 21620, f"Invalid media URL(s): {url}"))


def check_url(url: str, error: Refused) -> None:
    """A valid host name, and underscores are not allowed in it."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "_" in parts.hostname:
        raise error


def day_or_time(text: str) -> datetime:
    """A date, or a time in ISO 8601, both in GMT."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(400, 20001, f"'{text}' is no date") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
