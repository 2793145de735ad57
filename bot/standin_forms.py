"""What stands for private data: of the same kind and script, and nobody's. Reserved numbers where there are some.

Sources: RFC 2606 (example.com), RFC 5737 and 3849 (addresses), RFC 7042 (hardware), NANPA (555-01xx), Ofcom, Arcep and
Bundesnetzagentur (numbers for films). Chinese mobile numbers begin with 13 to 19, so 12 is nobody's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from random import Random

from roost import private_checks as checks
from roost.private import find
from roost.private_lists import listed
from roost.restoring import digits

NAMES = listed("standin_names.txt")
LATIN, HAN_SURNAMES, HAN_GIVEN, CYRILLIC = (NAMES[name] for name in ("latin", "surnames", "given", "cyrillic"))
POOL = (*LATIN, *HAN_SURNAMES, *HAN_GIVEN, *CYRILLIC)
SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeo"]
MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
HAN_RARE = "翀珩屿霁岑昱璟劭珵晗暶煦翊珣岫懿澍湛霏砚檀蘅芜栖棹瑭楹羡蕴"


def han(text: str) -> bool:
    return any("\u3400" <= one <= "\u9fff" for one in text)


def candidates(kind: str, private: str, chance: Random) -> Iterator[str]:
    """Stand-ins to choose from, without an end."""
    if kind in ("name", "surname", "given"):
        yield from pool(kind, private, chance)
    form = FORMS.get(kind, word)
    while True:
        yield form(private, chance)


def pool(kind: str, private: str, chance: Random) -> Iterator[str]:
    if han(private):
        names = list(HAN_SURNAMES if kind == "surname" else HAN_GIVEN)
    else:
        names = list(CYRILLIC if any("\u0400" <= one <= "\u04ff" for one in private) else LATIN)
    chance.shuffle(names)
    yield from names


def word(private: str, chance: Random) -> str:
    """A word that could be a name, when the pools are used up, or where nobody knows what it is."""
    if han(private):
        return "".join(chance.sample(HAN_RARE, 3))
    made = "".join(chance.choice(SYLLABLES) for _ in range(5))
    return made.capitalize()


def some(chance: Random, count: int) -> str:
    return "".join(chance.choice("0123456789") for _ in range(count))


def laid_out(private: str, number: str) -> str:
    rest = iter(number)
    return "".join(next(rest) if "0" <= one <= "9" else one for one in private)


def alike(private: str, chance: Random) -> str:
    """Digits for digits and letters for letters, in the same layout."""
    return "".join(
        chance.choice("0123456789")
        if one.isdigit()
        else one
        if not one.isalpha() or not one.isascii()
        else letter_like(one, chance)
        for one in private
    )


def letter_like(one: str, chance: Random) -> str:
    return chance.choice("ABCDEFGHJKLMNPRSTUVWXYZ" if one.isupper() else "abcdefghjkmnpqrstuvwxyz")


def failing(private: str, chance: Random) -> str:
    """The same layout, but no check holds: it is nobody's card, account or number."""
    for _ in range(200):
        made = alike(private, chance)
        if not any(item.kind in ("card", "iban", "id") for item in find(made)):
            return made
    return word(private, chance)


def iban(private: str, chance: Random) -> str:
    """The country stays; the check digits are 00 or 01, which ISO 13616 gives to nobody."""
    made = alike(private[4:], chance)
    number = f"{private[:2]}00{made}"
    return f"{private[:2]}01{made}" if checks.iban(number) else number


# A form by country: how many digits, how it begins, and what is nobody's there (# is any digit).
PHONES = (
    (r"1[3-9]\d{9}", "12#########"),
    (r"861[3-9]\d{9}", "8612#########"),
    (r"1?[2-9]\d{9}", "###55501##"),
    (r"447\d{9}", "447700900###"),
    (r"07\d{9}", "07700900###"),
    (r"330?[67]\d{8}", "33639980###"),
    (r"0[67]\d{8}", "063998####"),
    (r"49\d{9,10}", "491713920###"),
    (r"01\d{9,10}", "01713920####"),
    (r"\d{7}", "55501##"),
)


def phone(private: str, chance: Random) -> str:
    number = digits(private)
    shape = next((shape for form, shape in PHONES if re.fullmatch(form, number)), "")
    if shape == "###55501##":
        shape = number[:-10] + chance.choice("2346789") + shape[1:]
    if len(shape) != len(number):
        kept = number[: 2 if private.startswith("+") or number.startswith("0") else 0]
        shape = (kept + "555" + "#" * len(number))[: len(number)]
    return laid_out(private, "".join(some(chance, 1) if one == "#" else one for one in shape))


def email(_: str, chance: Random) -> str:
    front = chance.choice(SYLLABLES) + chance.choice(SYLLABLES)
    return f"{front}.{some(chance, 4)}@example.{chance.choice(('com', 'org', 'net'))}"


def machine(private: str, chance: Random) -> str:
    if re.fullmatch(r"[0-9a-fA-F]{2}([:-])(?:[0-9a-fA-F]{2}\1){4}[0-9a-fA-F]{2}", private):
        return f"00:00:5e:00:53:{chance.randrange(256):02x}"
    if ":" in private:
        return f"2001:db8::{chance.randrange(4096, 65536):x}:{chance.randrange(4096, 65536):x}"
    return f"{chance.choice(('192.0.2', '198.51.100', '203.0.113'))}.{chance.randrange(1, 255)}"


def birth(private: str, chance: Random) -> str:
    years = re.search(r"(?:19|20)\d\d", private)
    year = (int(years[0]) if years else 1970) + chance.randrange(-3, 4)
    month, day = chance.randrange(1, 13), chance.randrange(1, 29)
    if "年" in private:
        return f"{year}年{month}月{day}日"
    if re.match(r"(?:19|20)\d\d", private):
        mark = private[4]
        return f"{year}{mark}{month:02}{mark}{day:02}"
    if years and re.fullmatch(r"\d+[-/.]\d+[-/.]\d+", private):
        mark = re.sub(r"\d", "", private)[0]
        return f"{day:02}{mark}{month:02}{mark}{year}"
    return f"{MONTHS[month - 1]} {day}, {year}"


def address(private: str, chance: Random) -> str:
    door = chance.randrange(100, 9900)
    if han(private):
        return f"示例市样板区无名路{door}号"
    if re.search(r"stra(?:ß|ss)e|str\.|weg|platz|gasse|allee", private):
        return f"Musterstraße {door}, 00000 Musterstadt"
    if re.search(r"\b(?:rue|avenue|chemin|boulevard|place)\b", private):
        return f"{door} rue de l'Exemple, 00000 Exempleville"
    return f"{door} Example Street, Sampletown"


def key(_: str, chance: Random) -> str:
    return f"KEY-{some(chance, 4)}-{''.join(chance.choice('abcdefghjkmnpqrstuvwxyz') for _ in range(8))}"


def password(_: str, chance: Random) -> str:
    return f"Secret-{''.join(chance.choice('abcdefghjkmnpqrstuvwxyz') for _ in range(6))}"


def url(_: str, chance: Random) -> str:
    return f"https://example.com/private-{some(chance, 6)}"


def account(private: str, chance: Random) -> str:
    return failing(private, chance) if sum(one.isdigit() for one in private) >= 5 else f"acct{some(chance, 6)}"


FORMS: dict[str, Callable[[str, Random], str]] = {
    "phone": phone,
    "email": email,
    "ip": machine,
    "birth": birth,
    "address": address,
    "key": key,
    "password": password,
    "url": url,
    "account": account,
    "card": failing,
    "iban": iban,
    "id": failing,
}
