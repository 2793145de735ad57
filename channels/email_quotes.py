"""What of a mail somebody wrote just now: without what it quotes, and without a signature.

Only for answers: what is forwarded is meant to be read. No words of any language are looked for, but shapes: lines
that begin with ">", the line with a date before them, a block of "Label: value" lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

QUOTED = re.compile(r"\s{0,3}>")
DATE = re.compile(r"\d{4}|\d{1,2}[:.]\d{2}|[年月日]")
DIVIDER = re.compile(r"\\?[-_]{3,}[^\w\n]*\w[^\n]{0,60}[-_]{3,}\s*")  # -----Original Message-----
RULE = re.compile(r"\s*(?:\\?_{3,}|-{3,}|\*{3,}|- - -)?\s*")
WROTE = re.compile(r"(?=.*(?:\d{4}|\d[:.]\d{2}))[^\n]*<[^<>]*@[^<>]*>[^\n]{0,40}[:：]\s*")
LABEL = re.compile(r"\W{0,4}[^\W\d][^:：\n]{0,24}\W{0,2}[:：]\W{0,4}\s?\S[^\n]*")
DEVICE = re.compile(
    r"(?:Sent (?:from|with)|Get Outlook for|Gesendet (?:von|mit)|Envoyé (?:de|depuis|à partir)|Enviado (?:desde|do?)"
    r"|Inviato da|Verzonden (?:vanaf|met)|Von meinem)\b[^\n]{1,80}"
)
LINE = 300  # letters: what is longer is no line that a mail program adds
SIGNATURE = 12  # lines: further from the end, "--" is no signature


def answer(text: str) -> str:
    """What was written in answer. A quotation in the middle stays; if nothing else is left, everything does."""
    lines = _without_signature(text.replace("\r\n", "\n").split("\n"))
    lines = _without_first_quote(_without_last_quote(_without_history(lines)))
    lines = _without_signature(lines)
    return "\n".join(lines).strip() or text.strip()


def without_signature(text: str) -> str:
    """The same for a mail that answers nothing."""
    return "\n".join(_without_signature(text.split("\n"))).strip() or text.strip()


def _without_signature(lines: Sequence[str]) -> Sequence[str]:
    for number, line in enumerate(lines):
        near = len(lines) - number <= SIGNATURE
        if number and (line == "-- " or (near and re.fullmatch(r"(?:--|\\--|—)\s?", line))):
            return lines[:number]
    kept = _trimmed(lines)
    if len(kept) > 1 and len(kept[-1]) <= LINE and DEVICE.fullmatch(kept[-1].strip()):
        return kept[:-1]
    return lines


def _without_history(lines: Sequence[str]) -> Sequence[str]:
    """Without what Outlook and its kin put below: a divider or a block of headers, and everything after."""
    for number, line in enumerate(lines):
        if (
            number
            and len(line) <= LINE
            and (DIVIDER.fullmatch(line) or _is_header(lines, number) or _begins_quote(lines, number))
        ):
            above = lines[:number]
            while above and RULE.fullmatch(above[-1]):
                above = above[:-1]
            return above
    return lines


def _begins_quote(lines: Sequence[str], number: int) -> bool:
    """Whether "On Sunday at 20:12, Ann <ann@x> wrote:" stands here, and what follows is not marked (Yahoo)."""
    if lines[number - 1].strip() or not WROTE.fullmatch(lines[number]):
        return False
    below = next((line for line in lines[number + 1 :] if line.strip()), ">")
    return not QUOTED.match(below)


def _is_header(lines: Sequence[str], number: int) -> bool:
    """Whether three lines "From: …", "Sent: …", "To: …" begin here, behind an empty line or a rule."""
    if not RULE.fullmatch(lines[number - 1]):
        return False
    block = []
    for line in lines[number : number + 8]:
        if len(line) > LINE or not LABEL.fullmatch(line):
            break
        block.append(line)
    return len(block) >= 3 and "@" in " ".join(block) and bool(DATE.search(" ".join(block)))


def _without_last_quote(lines: Sequence[str]) -> Sequence[str]:
    kept = _trimmed(lines)
    end = len(kept)
    while end and (QUOTED.match(kept[end - 1]) or not kept[end - 1].strip()):
        end -= 1
    if end == len(kept):
        return kept
    above = _trimmed(kept[:end])
    return above[: len(above) - _attribution(above)]


def _without_first_quote(lines: Sequence[str]) -> Sequence[str]:
    start = next((number for number, line in enumerate(lines) if QUOTED.match(line)), None)
    if start is None:
        return lines
    above = _trimmed(lines[:start])
    if len(above) != _attribution(above):
        return lines
    while start < len(lines) and (QUOTED.match(lines[start]) or not lines[start].strip()):
        start += 1
    return lines[start:]


def _attribution(lines: Sequence[str]) -> int:
    """How many lines at the end say whose words follow: "On Sunday, 22 Nov 2026 at 20:12, Ann wrote:"."""
    if not lines or not lines[-1].rstrip().endswith((":", "：")):
        return 0
    named = 0
    for count in range(1, min(3, len(lines)) + 1):
        line = lines[-count]
        if not line.strip():
            break
        if DATE.search(line):
            return count
        named = named or ("@" in line and count)
    return named


def _trimmed(lines: Sequence[str]) -> Sequence[str]:
    end = len(lines)
    while end and not lines[end - 1].strip():
        end -= 1
    return lines[:end]


def flow(text: str, delete_space: bool = False) -> str:
    """Put together lines that the sender's program broke (RFC 3676, format=flowed)."""
    return "\n".join(_flow(text.replace("\r\n", "\n").split("\n"), delete_space))


def _flow(lines: Sequence[str], delete_space: bool) -> Iterator[str]:
    paragraph, depth = "", 0
    for line in lines:
        marks = len(line) - len(line.lstrip(">"))
        words = line[marks:].removeprefix(" ")
        if paragraph and (marks != depth or words == "-- "):
            yield _quote(paragraph, depth)
            paragraph = ""
        paragraph, depth = paragraph + words, marks
        if not words.endswith(" ") or words == "-- ":
            yield _quote(paragraph, depth)
            paragraph = ""
        elif delete_space:
            paragraph = paragraph[:-1]
    if paragraph:
        yield _quote(paragraph, depth)


def _quote(words: str, depth: int) -> str:
    return f"{'>' * depth} {words}" if depth else words
