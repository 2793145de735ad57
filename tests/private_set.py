"""Labelled messages, made from templates: `tuned` is what the detector was tuned on, `held` is what it is measured on.

The two share no template and no name. Names of `held` were drawn at random from Faker's lists (MIT), numbers from the
seed. `{name}` in a template is a private piece of that kind; what is in no braces is not private.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

from private_templates import BIRTHS, COPIES, MONTHS, NAMES, PASSWORDS, PHONES, STREETS, TEMPLATES

from roost import private_checks as checks

SEED = 20261122
Part = Literal["tuned", "held"]


@dataclass(frozen=True, slots=True)
class Label:
    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Labelled:
    """One message, its language, and what in it is private."""

    language: str
    text: str
    labels: tuple[Label, ...]


def some(chance: Random, count: int, alphabet: str = string.digits) -> str:
    return "".join(chance.choice(alphabet) for _ in range(count))


def until(check: Callable[[str], bool], make: Callable[[], str]) -> str:
    while not check(made := make()):
        pass
    return made


def card(chance: Random) -> str:
    number = until(checks.luhn, lambda: chance.choice("45") + some(chance, 15))
    groups = [number[at : at + 4] for at in range(0, 16, 4)]
    return chance.choice(("", " ", "-")).join(groups)


def iban(chance: Random) -> str:
    country, letters, count = chance.choice((("DE", 0, 18), ("FR", 0, 23), ("ES", 0, 20), ("NL", 4, 10), ("GB", 4, 14)))
    body = some(chance, letters, string.ascii_uppercase) + some(chance, count)
    number = next(made for check in range(100) if checks.iban(made := f"{country}{check:02}{body}"))
    return " ".join(re.findall(".{1,4}", number)) if chance.random() < 0.5 else number


def resident(chance: Random) -> str:
    day = f"{chance.randrange(1950, 2010)}{chance.randrange(1, 13):02}{chance.randrange(1, 29):02}"
    front = chance.choice(("110105", "310115", "440305", "513723", "330106", "659004")) + day + some(chance, 3)
    return until(checks.chinese, lambda: front + chance.choice(string.digits + "X"))


def national(chance: Random, language: str) -> str:
    if language == "zh":
        return resident(chance)
    if language == "de":
        return until(checks.german, lambda: some(chance, 11))
    if language == "fr":
        born = f"{some(chance, 2)}{chance.randrange(1, 13):02}"
        front = f"{chance.choice('12')}{born}{chance.randrange(10, 95)}{some(chance, 6)}"
        return front + f"{97 - int(front) % 97:02}"
    if language == "es":
        return until(checks.spanish, lambda: some(chance, 8) + chance.choice(string.ascii_uppercase))
    return until(checks.american, lambda: f"{chance.randrange(100, 899)}-{some(chance, 2)}-{some(chance, 4)}")


def phone(chance: Random, language: str) -> str:
    sizes = (("a", 201, 989), ("b", 200, 999), ("d", 1000, 9999), ("s", 100000, 999999), ("e", 10000000, 99999999))
    pairs = {one: str(chance.randrange(low, high)) for one, low, high in sizes}
    return re.sub(r"\{p\}", lambda _: some(chance, 2), chance.choice(PHONES[language])).format(**pairs)


def birth(chance: Random, language: str) -> str:
    month, day, year = chance.randrange(1, 13), chance.randrange(13, 29), chance.randrange(1940, 2012)
    form = chance.choice(BIRTHS[language])
    return form.format(day=day, dd=f"{day:02}", m=month, mm=f"{month:02}", month=chance.choice(MONTHS), year=year)


def email(chance: Random, part: Part) -> str:
    front = chance.choice(
        ("ann.lee", "info", "k_berg", "x99")
        if part == "tuned"
        else ("t.andrews", "bnash84", "shelby-s", "office", "liu.fei", "m_ramirez+home")
    )
    hosts = ("gmail.com", "mail.home.org", "qq.com", "163.com", "firma.de", "post.example.co.uk")
    return f"{front}{chance.randrange(99)}@{chance.choice(hosts)}"


def key(chance: Random, part: Part) -> str:
    letters = string.ascii_letters + string.digits
    tuned = (f"sk-proj-{some(chance, 40, letters)}", f"ghp_{some(chance, 36, letters)}")
    held = (
        f"sk-ant-api03-{some(chance, 40, letters)}",
        f"AKIA{some(chance, 16, string.ascii_uppercase + string.digits)}",
        f"xoxb-{some(chance, 12)}-{some(chance, 24, letters)}",
        f"hf_{some(chance, 34, letters)}",
        f"AIza{some(chance, 35, letters)}",
        some(chance, 40, letters),
        some(chance, 32, "0123456789abcdef"),
        f"eyJ{some(chance, 20, letters)}.eyJ{some(chance, 40, letters)}.{some(chance, 43, letters)}",
        f"{some(chance, 10)}:AA{some(chance, 33, letters)}",
    )
    return chance.choice(tuned if part == "tuned" else held)


def url(chance: Random, part: Part) -> str:
    secret = some(chance, 12, string.ascii_letters)
    tuned, held = f"postgres://app:{secret}@db.home.lan:5432/app", f"https://admin:{secret}@nas.home.lan/files"
    return (
        tuned
        if part == "tuned"
        else chance.choice((held, f"https://api.home.org/v1/list?token={secret}{some(chance, 8)}"))
    )


def address(chance: Random, language: str, part: Part) -> str:
    return chance.choice(STREETS[part, language]).replace("{n}", str(chance.randrange(2, 300)))


def value(kind: str, chance: Random, language: str, part: Part) -> str:
    name = chance.choice(NAMES[part, language].split("|"))
    made: dict[str, Callable[[], str]] = {
        "name": lambda: name if language == "zh" or chance.random() < 0.6 else name.split()[0],
        "surname": lambda: (
            name.split()[-1] if language != "zh" else name[:2] if name[:2] in ("欧阳", "诸葛") else name[0]
        ),
        "email": lambda: email(chance, part),
        "phone": lambda: phone(chance, language),
        "card": lambda: card(chance),
        "iban": lambda: iban(chance),
        "id": lambda: national(chance, language),
        "account_id": lambda: chance.choice("CGXE") + some(chance, 8),
        "account": lambda: (
            some(chance, 9)
            if chance.random() < 0.5
            else f"wx_{some(chance, 6, string.ascii_lowercase)}{some(chance, 2)}"
        ),
        "ip": lambda: f"{chance.choice(('192.168.1', '10.0.7', '84.23.9', '203.9.44'))}.{chance.randrange(2, 250)}",
        "url": lambda: url(chance, part),
        "key": lambda: key(chance, part),
        "password": lambda: chance.choice(PASSWORDS[part]),
        "birth": lambda: birth(chance, language),
        "address": lambda: address(chance, language, part),
    }
    return made[kind]()


def filled(template: str, chance: Random, language: str, part: Part) -> Labelled:
    text = ""
    labels: list[Label] = []
    for at, piece in enumerate(re.split(r"\{(\w+)\}", template.replace("\\n", "\n"))):
        made = value(piece, chance, language, part) if at % 2 else piece
        if at % 2:
            kind = {"surname": "name", "account_id": "id"}.get(piece, piece)
            labels.append(Label(kind, len(text), len(text) + len(made)))
        text += made
    return Labelled(language, text, tuple(labels))


def messages(part: Part) -> list[Labelled]:
    """All messages of a part, the same each time."""
    chance = Random(f"{SEED}:{part}")
    made: list[Labelled] = []
    for (which, language), lines in TEMPLATES.items():
        if which == part:
            for template in lines.strip().splitlines():
                copies = COPIES[language] if "{" in template else 1
                made += [filled(template, chance, language, part) for _ in range(copies)]
    return made
