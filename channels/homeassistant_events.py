"""What Home Assistant's events say, and how an answer becomes a notification or an event.

https://data.home-assistant.io/docs/events and
https://companion.home-assistant.io/docs/notifications/actionable-notifications
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote

from roost.dialects import PLAIN, Dialect, render
from roost.values import Button, Message, Person, Place, Reply

ACTION = "mobile_app_notification_action"
PANEL = "persistent_notification"
PHONE = "notify.mobile_app_"
NOBODY = "home"  # who speaks, and where, when an automation says neither
ROOM = 1000  # bytes that the buttons of a notification may have
MAX_ACTIONS = 3  # of a notification; Android shows no more
# The companion app obeys a notification whose text is one of these instead of showing it; more come with new versions.
COMMAND = re.compile(r"(?:TTS|[A-Za-z]+(?:_[A-Za-z]+)+)")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resident:
    """Someone of the house: the entity `person.NAME`, the user that belongs to it, and the name to show."""

    entity: str
    user: str
    name: str


class House:
    """Who is who. A user without a `person` is known by the id alone."""

    def __init__(self, residents: Mapping[str, Resident] | None = None) -> None:
        self._by_user = {one.user: one for one in (residents or {}).values() if one.user}
        self._by_entity = dict(residents or {})

    def knows(self, user: str) -> bool:
        return user in self._by_user

    def named(self, entity: str) -> Resident | None:
        return self._by_entity.get(entity)

    def user(self, id: str) -> Resident:
        return self._by_user.get(id) or Resident(id, id, "")

    def owner(self, chat: str) -> str:
        """The user whose own chat this is, "" when it is nobody's."""
        found = self._by_entity.get(chat)
        return found.user if found else ""


RESIDENTS = """[{% for one in states.person %}
{{ [one.entity_id, one.attributes.user_id | default('', true), one.name] | to_json }}{{ ',' if not loop.last }}
{% endfor %}]"""
"""A template that lists the residents (https://www.home-assistant.io/docs/configuration/templating)."""


def house(rows: Any) -> House:
    """Read what the template gave."""
    found = [Resident(*map(str, row)) for row in rows if isinstance(row, list) and len(row) == 3]
    return House({one.entity: one for one in found})


def read(event: Any, channel: str, prefix: str, residents: House) -> Message | None:
    """The message in an event; None where there is none for the bot. Raises ValueError for what makes no sense."""
    if not isinstance(event, dict) or not isinstance(event.get("data"), dict):
        raise ValueError("an event has no data.")
    data = event["data"]
    if event.get("event_type") == ACTION:
        return _action(event, data, channel, prefix, residents)
    text = said(data.get("text"))
    if not text.strip():
        raise ValueError("it has no 'text'.")
    speaker = _speaker(event, data, residents)
    chat = _word(data, "chat") or speaker.entity
    owner = residents.owner(chat)
    if owner and speaker.user and owner != speaker.user:
        chat = speaker.entity  # nobody speaks in the chat of somebody else
    given = _word(data, "id")
    place = Place(channel, chat, kind="group" if data.get("group") is True else "direct")
    return _message(event, place, speaker, text, given)


def _action(event: Json, data: Json, channel: str, prefix: str, residents: House) -> Message | None:
    """A press of a button, or an answer written under a notification."""
    parts = str(data.get("action") or "").split(":")
    if parts[0] != mark(prefix) or len(parts) != 3:
        return None
    _, chat, value = map(unquote, parts)
    text = value or _word(data, "reply_text")
    if not chat or not text.strip():
        return None
    return _message(event, Place(channel, chat), _speaker(event, {}, residents), text, "")


def author(event: Any) -> str:
    """The id of the user who made an event happen, "" for nobody."""
    context = event.get("context") if isinstance(event, dict) else None
    user = context.get("user_id") if isinstance(context, dict) else None
    return user if isinstance(user, str) else ""


def _speaker(event: Json, data: Json, residents: House) -> Resident:
    """The user who made the event happen, which nobody can choose; else whom an automation names."""
    if user := author(event):
        return residents.user(user)
    person = _word(data, "person")
    return residents.named(person) or (Resident(person, person, person) if person else Resident(NOBODY, NOBODY, ""))


def _message(event: Json, place: Place, speaker: Resident, text: str, given: str) -> Message:
    """Several events of one script have one context, so the moment belongs to the name of a delivery."""
    fired = str(event.get("time_fired") or "")
    context = event.get("context")
    id = given or f"{context.get('id') if isinstance(context, dict) else ''}.{fired}"
    at = datetime.fromisoformat(fired).timestamp() if fired else 0.0
    sender = Person(place.channel, speaker.user or speaker.entity, speaker.name)
    return Message(id=id, place=place, sender=sender, text=text, at=at, ticket=given)


def _word(data: Json, name: str) -> str:
    value = data.get(name)
    return value.strip() if isinstance(value, str) else str(value) if type(value) is int else ""


def mark(prefix: str) -> str:
    """What the actions of our notifications begin with."""
    return prefix.upper()


def notification(reply: Reply, chat: str, title: str, tag: str, prefix: str) -> Json:
    """What notify.mobile_app_NAME takes: a notification that replaces the one with its tag.

    Buttons that leave no room for the text become lines under it.
    """
    actions = [_button(chat, one, prefix) for one in reply.buttons]
    text = render(reply.text, PLAIN)
    if len(json.dumps(actions, ensure_ascii=False).encode()) > ROOM:
        actions, text = [], listed(reply)
    if len(actions) < MAX_ACTIONS:
        answer = {"action": f"{mark(prefix)}:{quote(chat, safe='')}:", "title": "Reply", "behavior": "textInput"}
        actions.append(answer)
    return {"title": title, "message": shown(text), "data": {"tag": tag, "group": prefix, "actions": actions}}


def _button(chat: str, button: Button, prefix: str) -> Json:
    if button.url:
        return {"action": "URI", "title": button.text, "uri": button.url}
    value = quote(button.value or button.text, safe="")
    return {"action": f"{mark(prefix)}:{quote(chat, safe='')}:{value}", "title": button.text}


def said(value: Any) -> str:
    """A text as it was before Home Assistant made something else of it.

    What a template gives is a number, a list or the like when it looks like one: who says "42" fires an event with 42
    (https://www.home-assistant.io/docs/configuration/templating).
    """
    return "" if value is None else str(value)


def shown(text: str) -> str:
    """The text, such that the companion app shows it: what a model writes must not command a phone."""
    return f"\u200b{text}" if COMMAND.fullmatch(text.strip()) else text


def listed(reply: Reply, dialect: Dialect = PLAIN) -> str:
    """The text and under it the buttons, for a notification that has none."""
    lines = [f"- {one.text}{f' ({one.url})' if one.url else ''}" for one in reply.buttons]
    return render("\n".join([reply.text, *([""] if lines else []), *lines]), dialect)


def answer(reply: Reply, chat: str, tag: str) -> Json:
    """The data of the event PREFIX_reply. `to` is the id that the question had, if an automation gave it one."""
    buttons = [{"text": one.text, "value": one.value or one.text, "url": one.url} for one in reply.buttons]
    said = {"text": render(reply.text, PLAIN), "markdown": reply.text}
    return {"chat": chat, "id": tag, "to": reply.ticket, **said, "buttons": buttons}
