"""Block Kit as Slack checks it, and what people see of it. https://docs.slack.dev/reference/block-kit"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable
from typing import Any

Json = dict[str, Any]
Problems = list[str]

STYLES = {"bold", "italic", "strike", "code", "underline", "highlight", "client_highlight", "unlink"}


def check(blocks: Any) -> Problems:
    """What is wrong with an array of blocks, as `response_metadata.messages` has it."""
    if not isinstance(blocks, list):
        return ["[ERROR] must be an array [json-pointer:/blocks]"]
    if len(blocks) > 50:
        return ["[ERROR] no more than 50 items allowed [json-pointer:/blocks]"]
    problems: Problems = []
    for number, block in enumerate(blocks):
        kind = block.get("type") if isinstance(block, dict) else None
        checker = BLOCKS.get(kind) if isinstance(kind, str) else None
        if checker is None:
            problems.append(f"[ERROR] unsupported type: {kind} [json-pointer:/blocks/{number}/type]")
        else:
            problems += checker(block, f"/blocks/{number}")
    return problems


def fields(one: Any, at: str, required: Iterable[str], optional: Iterable[str] = ()) -> Problems:
    if not isinstance(one, dict):
        return [f"[ERROR] must be an object [json-pointer:{at}]"]
    missing = [f"[ERROR] missing required field: {name} [json-pointer:{at}]" for name in required if name not in one]
    extra = set(one) - {"type", "block_id", *required, *optional}
    return missing + [f"[ERROR] no more fields allowed: {name} [json-pointer:{at}]" for name in sorted(extra)]


def length(value: Any, at: str, most: int) -> Problems:
    if not isinstance(value, str) or not value:
        return [f"[ERROR] must be more than 0 characters [json-pointer:{at}]"]
    return [f"[ERROR] must be less than {most + 1} characters [json-pointer:{at}]"] if len(value) > most else []


def check_rich(block: Json, at: str) -> Problems:
    problems = fields(block, at, ["elements"])
    for number, element in enumerate(block.get("elements") or [{}]):
        problems += check_part(element, f"{at}/elements/{number}")
    return problems


def check_part(part: Any, at: str) -> Problems:
    kind = part.get("type")
    if kind == "rich_text_list":
        problems = fields(part, at, ["style", "elements"], ["indent", "offset", "border"])
        problems += [] if part.get("style") in {"bullet", "ordered"} else [f"[ERROR] invalid style [json-pointer:{at}]"]
        if not 0 <= part.get("indent", 0) <= 8:
            problems.append(f"[ERROR] invalid indent [json-pointer:{at}/indent]")
        for number, line in enumerate(part.get("elements") or [{}]):
            if line.get("type") != "rich_text_section":
                problems.append(f"[ERROR] must be a rich_text_section [json-pointer:{at}/elements/{number}]")
            problems += check_line(line, f"{at}/elements/{number}")
        return problems
    if kind not in {"rich_text_section", "rich_text_quote", "rich_text_preformatted"}:
        return [f"[ERROR] unsupported type: {kind} [json-pointer:{at}]"]
    return check_line(part, at)


def check_line(part: Json, at: str) -> Problems:
    more = ["border"] if part.get("type") != "rich_text_section" else []
    problems = fields(part, at, ["elements"], more)
    for number, span in enumerate(part.get("elements") or [{}]):
        problems += check_span(span, f"{at}/elements/{number}", part.get("type") == "rich_text_preformatted")
    return problems


SPANS: dict[str, tuple[list[str], list[str]]] = {
    "text": (["text"], ["style"]),
    "link": (["url"], ["text", "unsafe", "style"]),
    "user": (["user_id"], ["style"]),
    "channel": (["channel_id"], ["style"]),
    "usergroup": (["usergroup_id"], ["style"]),
    "broadcast": (["range"], []),
    "emoji": (["name"], ["unicode", "skin_tone"]),
    "date": (["timestamp", "format"], ["url", "fallback"]),
}


def check_span(span: Any, at: str, bare: bool) -> Problems:
    kind = span.get("type")
    if kind not in SPANS or (bare and kind not in {"text", "link"}):
        return [f"[ERROR] unsupported type: {kind} [json-pointer:{at}]"]
    problems = fields(span, at, *SPANS[kind])
    if kind == "text":
        problems += length(span.get("text"), f"{at}/text", 1 << 30)
    style = span.get("style", {})
    if not isinstance(style, dict) or set(style) - STYLES or not all(isinstance(on, bool) for on in style.values()):
        problems.append(f"[ERROR] invalid style [json-pointer:{at}/style]")
    return problems


def check_actions(block: Json, at: str) -> Problems:
    problems = fields(block, at, ["elements"])
    elements = block.get("elements") or []
    if not 1 <= len(elements) <= 25:
        problems.append(f"[ERROR] between 1 and 25 items [json-pointer:{at}/elements]")
    names = [one.get("action_id") for one in elements]
    if len(set(names)) < len(names):
        problems.append(f"[ERROR] `action_id` must be unique [json-pointer:{at}/elements]")
    for number, one in enumerate(elements):
        here = f"{at}/elements/{number}"
        if one.get("type") != "button":
            problems.append(f"[ERROR] unsupported type: {one.get('type')} [json-pointer:{here}]")
        problems += fields(
            one, here, ["text"], ["action_id", "url", "value", "style", "confirm", "accessibility_label"]
        )
        problems += check_words(one.get("text"), f"{here}/text", 75, {"plain_text"})
        for name, most in (("value", 2000), ("url", 3000), ("action_id", 255)):
            problems += length(one[name], f"{here}/{name}", most) if name in one else []
    return problems


def check_words(text: Any, at: str, most: int, kinds: set[str]) -> Problems:
    problems = fields(text, at, ["text"], ["emoji", "verbatim"])
    if not isinstance(text, dict) or text.get("type") not in kinds:
        return [*problems, f"[ERROR] unsupported type [json-pointer:{at}]"]
    return problems + length(text.get("text"), f"{at}/text", most)


def check_section(block: Json, at: str) -> Problems:
    problems = fields(block, at, ["text"], ["fields", "accessory", "expand"])
    return problems + check_words(block.get("text"), f"{at}/text", 3000, {"mrkdwn", "plain_text"})


BLOCKS: dict[str, Callable[[Json, str], Problems]] = {
    "rich_text": check_rich,
    "actions": check_actions,
    "section": check_section,
    "divider": lambda block, at: fields(block, at, []),
}

# ------------------------------------------------------------------------------------------------ what people see


def seen(message: Json) -> str:
    """A message as people read it, without its styles."""
    shown = [see_block(block) for block in message.get("blocks", []) if block["type"] != "actions"]
    return "\n".join(shown) if shown else see_mrkdwn(message.get("text", ""))


def see_block(block: Json) -> str:
    if block["type"] == "section":
        text = block["text"]
        return see_mrkdwn(text["text"]) if text["type"] == "mrkdwn" else str(text["text"])
    return "\n".join(see_part(part) for part in block.get("elements", []))


def see_part(part: Json) -> str:
    if part["type"] != "rich_text_list":
        return "".join(see_span(span) for span in part["elements"])
    lines = []
    for number, line in enumerate(part["elements"]):
        mark = "•" if part["style"] == "bullet" else f"{number + 1 + part.get('offset', 0)}."
        lines.append("    " * part.get("indent", 0) + f"{mark} {see_part(line)}")
    return "\n".join(lines)


def see_span(span: Json) -> str:
    return str(span.get("text") or span.get("url") or span.get("name") or span.get("user_id") or "")


def see_mrkdwn(text: str) -> str:
    text = re.sub(r"<([^<>|]+)\|([^<>]+)>", r"\2", text)
    text = re.sub(r"<([^<>]+)>", r"\1", text)
    text = re.sub(r"```\n?(.*?)\n?```", r"\1", text, flags=re.DOTALL)
    text = re.sub(r"(?<![\w])([*_~`])(?=\S)(.+?)(?<=\S)\1(?!\w)", r"\2", text)
    return html.unescape(text).replace("\u200b", "")


def buttons(message: Json) -> list[Json]:
    actions = [block for block in message.get("blocks", []) if block["type"] == "actions"]
    return [one for block in actions for one in block["elements"]]
