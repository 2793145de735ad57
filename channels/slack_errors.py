"""What the errors of Slack's Web API mean for a message.

https://docs.slack.dev/reference/methods/chat.postMessage#errors
"""

from __future__ import annotations

from typing import Any

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError

from roost.errors import ChannelError, LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.reach import why

BEFORE_SENDING = (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError, aiohttp.ConnectionTimeoutError)
TROUBLE = (SlackClientError, aiohttp.ClientError, OSError, TimeoutError)
"""Everything a call of the Web API raises."""

REFUSED = {
    *("invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired", "not_allowed_token_type"),
    *("org_login_required", "team_access_not_granted", "two_factor_setup_required", "forbidden_team", "access_denied"),
    *("enterprise_is_restricted", "ekm_access_denied", "accesslimited", "no_permission"),
}
TOO_FAST = {"ratelimited", "rate_limited", "message_limit_exceeded"}
LATER = {"service_unavailable", "team_added_to_org", "request_timeout", "external_channel_migrating"}
UNKNOWN = {"internal_error", "fatal_error", "update_failed"}  # "some aspect of the operation may have succeeded"
BLOCKS = {"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long", "msg_blocks_too_many"}


class Refused(Undeliverable):
    """Slack will not do it, for the reason it has this `word` for."""

    def __init__(self, message: str, word: str) -> None:
        super().__init__(message)
        self.word = word


def word(error: BaseException) -> str:
    """Slack's own word for an error; empty when it is none of Slack's."""
    found = data(error).get("error")
    return found if isinstance(found, str) else ""


def status(error: SlackApiError) -> int:
    """The HTTP status; slack_sdk gives its own response or aiohttp's."""
    found = getattr(error.response, "status_code", None) or getattr(error.response, "status", None)
    return int(found) if isinstance(found, int) else 0


def data(error: BaseException) -> dict[str, Any]:
    found = getattr(error.response, "data", None) if isinstance(error, SlackApiError) else None
    return found if isinstance(found, dict) else {}


def pause(error: BaseException) -> float | None:
    """The seconds to wait that Slack asks for (https://docs.slack.dev/apis/web-api/rate-limits)."""
    headers = getattr(error.response, "headers", None) if isinstance(error, SlackApiError) else None
    try:
        return float(headers["Retry-After"]) if headers is not None else None
    except (KeyError, ValueError):
        return None


def explain(error: BaseException, channel: str) -> ChannelError:
    """What an error means. An answer of 500 or 502 does not tell whether it went through."""
    said = word(error)
    if isinstance(error, SlackApiError) and (status(error) == 429 or said in TOO_FAST):
        return NotSent("Slack asks for a pause.", pause(error))
    if said and said not in UNKNOWN:
        return spoken(error, said, channel)
    if isinstance(error, BEFORE_SENDING):
        return NotSent(f"Slack is out of reach: {why(error)}.")
    number = status(error) if isinstance(error, SlackApiError) else 0
    return MaybeSent(f"Slack's answer got lost: {said or (f'status {number}' if number else why(error))}.")


def spoken(error: BaseException, said: str, channel: str) -> ChannelError:
    """What Slack's word for an error means."""
    if said in REFUSED:
        return refused("token", said, channel)
    if said == "missing_scope":
        needed = data(error).get("needed", "")
        return NotSent(
            f"Slack wants the scope '{needed}' for this. Add it under OAuth & Permissions of the app, and install the "
            "app again."
        )
    if said in LATER:
        return NotSent(f"Slack cannot do it now ({said}).")
    return Refused(f"Slack refuses it: {said}{''.join(hints(error))}.", said)


def hints(error: BaseException) -> list[str]:
    """What Slack says of the argument that it does not like."""
    metadata = data(error).get("response_metadata")
    messages = metadata.get("messages", []) if isinstance(metadata, dict) else []
    return [f", {str(message)[:150]}" for message in messages[:2]]


CURES = {
    "token": "Copy the bot user's OAuth token, which begins with 'xoxb-', from OAuth & Permissions of the app.",
    "app_token": "Make one with the scope connections:write under Basic Information of the app, App-Level Tokens; it "
    "begins with 'xapp-'.",
}


def refused(name: str, said: str, channel: str) -> LoginFailed:
    return LoginFailed(f"Slack refuses the '{name}' of bot.toml: [channels.{channel}] ({said}). {CURES[name]}")
