"""Whether a mail is from whom it says, as the bot's own provider found out.

https://www.rfc-editor.org/rfc/rfc8601 (Authentication-Results), /rfc7489 (DMARC: what must agree with From)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

LONGEST = 4_000  # letters of a line that is looked at
PAIR = re.compile(r'([\w.-]+)(?:\s*/\s*\d+)?\s*=\s*("(?:[^"\\]|\\.)*"|[^\s";,]+)')


@dataclass(frozen=True, slots=True)
class Result:
    """One check: `properties` are such as {"header.from": "example.org"}, all in lower case."""

    method: str
    result: str
    properties: Mapping[str, str] = field(default_factory=dict)


def verified(fields: Iterable[str], authserv_id: str, domain: str) -> bool:
    """Whether the provider called `authserv_id` found that a mail is from `domain`.

    `fields` are the values of Authentication-Results from the top of the mail down. Only the first that bears the
    provider's name counts: whatever stands below it may have been there when the mail arrived. DMARC decides where it
    was checked; otherwise DKIM or SPF for the very domain of From. What cannot be read proves nothing.
    """
    for value in fields:
        if named(value) == authserv_id.lower():
            return len(value) <= LONGEST and _proves(parse(value), domain.lower())
    return False


def _proves(results: list[Result], domain: str) -> bool:
    judged = [one for one in results if one.method == "dmarc"]
    if judged and any(one.result != "none" for one in judged):
        return all(one.result == "pass" and one.properties.get("header.from") == domain for one in judged)
    return any(_agrees(one, domain) for one in results if one.result == "pass")


def _agrees(one: Result, domain: str) -> bool:
    if one.method == "dkim":
        signer = one.properties.get("header.d") or one.properties.get("header.i", "").rpartition("@")[2]
        return bool(signer) and (domain == signer or ("." in signer and domain.endswith("." + signer)))
    if one.method == "spf":
        return one.properties.get("smtp.mailfrom", "").rpartition("@")[2] == domain
    return False


def named(value: str) -> str:
    """The name of whoever checked."""
    first = _without_comments(value[:LONGEST]).partition(";")[0].split()
    return first[0].lower() if first else ""


def parse(value: str) -> list[Result]:
    """What was found."""
    return [result for part in _split(_without_comments(value))[1:] if (result := _result(part))]


def _result(part: str) -> Result | None:
    pairs = [(name.lower(), value.strip('"').lower()) for name, value in PAIR.findall(part)]
    if not pairs:
        return None
    (method, result), *properties = pairs
    return Result(method, result, dict(properties))


def _without_comments(value: str) -> str:
    """Without (comments), which may be nested, but not those in quotation marks (RFC 5322, section 3.2.2)."""
    kept, depth, quoted, escaped = [], 0, False, False
    for letter in value:
        if escaped:
            escaped = False
            kept += [letter] if not depth else []
            continue
        escaped = letter == "\\"
        if letter == '"' and not depth:
            quoted = not quoted
        if letter == "(" and not quoted:
            depth += 1
        if not depth:
            kept.append(letter)
        if letter == ")" and not quoted and depth:
            depth -= 1
    return "".join(kept)


def _split(value: str) -> list[str]:
    """At the semicolons outside quotation marks."""
    return re.findall(r'(?:"(?:[^"\\]|\\.)*"|[^;"])+|(?<=;)(?=;)', value) or [""]
