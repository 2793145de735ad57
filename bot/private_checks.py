"""Check digits: what tells a real number from one that only looks like it. No I/O, no tables of issuers.

Every check takes the text as it was found, with its separators, and says whether it holds.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence

IBAN_LENGTHS = {
    **{"AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28},
    **{"CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18},
    **{"FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22},
    **{"IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20},
    **{"LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18},
    **{"NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SE": 24, "SI": 19},
    **{"SK": 24, "SM": 27, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20},
}
SPANISH = "TRWAGMYFPDXBNJZSQVHLCKE"
ITALIAN_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
TAIWAN = "ABCDEFGHJKLMNPQRSTUVXYWZIO"
VERHOEFF = (
    "0123456789 1234067895 2340178956 3401289567 4012395678 5987604321 6598710432 7659821043 8765932104 9876543210"
)
VERHOEFF_TURNS = "0123456789 1576283094 5803796142 8916043527 9453126870 4286573901 2793806415 7046913258"


def digits_of(text: str) -> list[int]:
    """The decimal digits of ASCII in a text."""
    return [ord(one) - 48 for one in text if "0" <= one <= "9"]


def plain(text: str) -> str:
    """Capitals and digits only."""
    return re.sub(r"[^A-Z0-9]", "", text.upper())


def weighed(digits: Sequence[int], weights: Sequence[int]) -> int:
    return sum(digit * weight for digit, weight in zip(digits, weights, strict=False))


def is_day(year: int, month: int, day: int) -> bool:
    """Whether a calendar has this day, and somebody alive may have been born on it."""
    try:
        return 1900 <= datetime.date(year, month, day).year <= 2100
    except ValueError:
        return False


def luhn(text: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    total = 0
    for place, digit in enumerate(reversed(digits_of(text))):
        doubled = digit * (1 + place % 2)
        total += doubled - 9 * (doubled > 9)
    return total % 10 == 0


def card(text: str) -> bool:
    """13 to 19 digits that Luhn accepts, not all alike."""
    digits = digits_of(text)
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and digits[0] != 0 and luhn(text)


def iban(text: str) -> bool:
    """ISO 13616: the country's length, and the remainder 1 of 97."""
    found = plain(text)
    if IBAN_LENGTHS.get(found[:2]) != len(found):
        return False
    return int("".join(str(int(one, 36)) for one in found[4:] + found[:4])) % 97 == 1


def chinese(text: str) -> bool:
    """GB 11643: a day of birth and ISO 7064 mod 11-2. Districts come and go, so none is refused."""
    found = plain(text)
    if len(found) != 18 or not is_day(int(found[6:10]), int(found[10:12]), int(found[12:14])):
        return False
    total = sum(int(digit) * pow(2, 17 - place, 11) for place, digit in enumerate(found[:17]))
    return "10X98765432"[total % 11] == found[17]


def american(text: str) -> bool:
    """What the Social Security Administration (or, from 900, the tax office) may have given out."""
    digits = "".join(map(str, digits_of(text)))
    if len(digits) != 9 or digits[3:5] == "00" or digits[5:] == "0000" or len(set(digits)) == 1:
        return False
    return digits[:3] not in ("000", "666") and (digits[0] != "9" or digits[3] in "56789")


def british_health(text: str) -> bool:
    """The NHS number: mod 11 with falling weights."""
    digits = digits_of(text)
    return len(digits) == 10 and 11 - weighed(digits, range(10, 1, -1)) % 11 == (digits[9] or 11)


def dutch(text: str) -> bool:
    """The BSN's test of eleven."""
    digits = digits_of(text)
    return len(digits) == 9 and any(digits) and weighed(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def german(text: str) -> bool:
    """The tax id: ISO 7064 mod 11,10; of its first ten digits one and only one comes two or three times."""
    digits = digits_of(text)
    if len(digits) != 11 or digits[0] == 0:
        return False
    if sorted(digits[:10].count(one) for one in set(digits[:10]))[-2:] not in ([1, 2], [1, 3]):
        return False
    product = 10
    for digit in digits[:10]:
        product = ((digit + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == digits[10]


def french(text: str) -> bool:
    """The NIR: its key is 97 less the remainder; Corsica's 2A and 2B stand for 19 and 18."""
    found = plain(text).replace("2A", "19").replace("2B", "18")
    return len(found) == 15 and found.isdigit() and 97 - int(found[:13]) % 97 == int(found[13:])


def spanish(text: str) -> bool:
    """DNI and NIE: a letter by the remainder of 23."""
    found = plain(text)
    number = found[:-1].replace("X", "0").replace("Y", "1").replace("Z", "2")
    return number.isdigit() and SPANISH[int(number) % 23] == found[-1]


def italian(text: str) -> bool:
    """The codice fiscale's last letter."""
    found = plain(text)
    total = 0
    for place, one in enumerate(found[:15]):
        value = int(one) if one.isdigit() else ord(one) - 65
        total += value if place % 2 else ITALIAN_ODD[value]
    return len(found) == 16 and chr(65 + total % 26) == found[15]


def belgian(text: str) -> bool:
    """97 less the remainder, with a 2 before it for who was born after 1999."""
    found = "".join(map(str, digits_of(text)))
    return len(found) == 11 and int(found[9:]) in (97 - int(found[:9]) % 97, 97 - int("2" + found[:9]) % 97)


def polish(text: str) -> bool:
    """PESEL: weights 1 3 7 9 and a day of birth, with the century in the month."""
    digits = digits_of(text)
    if len(digits) != 11 or weighed(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10:
        return False
    month = digits[2] * 10 + digits[3]
    year = 1900 + month // 20 * 100
    return is_day(year + digits[0] * 10 + digits[1], month % 20, digits[4] * 10 + digits[5])


def swedish(text: str) -> bool:
    """Personnummer: Luhn over the last ten digits, and a day of birth (coordination numbers add 60)."""
    digits = digits_of(text)[-10:]
    day = digits[4] * 10 + digits[5]
    return is_day(2000, digits[2] * 10 + digits[3], day - 60 * (day > 60)) and luhn("".join(map(str, digits)))


def swiss(text: str) -> bool:
    """AHV: EAN-13 that begins with 756."""
    digits = digits_of(text)
    return len(digits) == 13 and weighed(digits, (1, 3) * 6 + (1,)) % 10 == 0


def brazilian(text: str) -> bool:
    """CPF: two check digits."""
    digits = digits_of(text)
    if len(digits) != 11 or len(set(digits)) == 1:
        return False
    return all(weighed(digits, range(at + 1, 1, -1)) * 10 % 11 % 10 == digits[at] for at in (9, 10))


def indian(text: str) -> bool:
    """Aadhaar: Verhoeff's check."""
    digits = digits_of(text)
    check = 0
    for place, digit in enumerate(reversed(digits)):
        check = int(VERHOEFF[check * 11 + int(VERHOEFF_TURNS[place % 8 * 11 + digit])])
    return len(digits) == 12 and digits[0] > 1 and check == 0


def korean(text: str) -> bool:
    """A day of birth; numbers given out since 2020 have no check digit."""
    digits = digits_of(text)
    return is_day(2000, digits[2] * 10 + digits[3], digits[4] * 10 + digits[5])


def taiwanese(text: str) -> bool:
    found = plain(text)
    area = TAIWAN.index(found[0]) + 10
    return (area // 10 + area % 10 * 9 + weighed(digits_of(found), (8, 7, 6, 5, 4, 3, 2, 1, 1))) % 10 == 0


def hong_kong(text: str) -> bool:
    found = plain(text)
    values = [int(one, 36) for one in found.rjust(9, " ").replace(" ", "")]
    values = [36] * (9 - len(values)) + values
    return weighed(values, range(9, 0, -1)) % 11 == 0


def singaporean(text: str) -> bool:
    """NRIC and FIN; the newest series, M, is taken without its check."""
    found = plain(text)
    total = weighed(digits_of(found), (2, 7, 6, 5, 4, 3, 2)) + 4 * (found[0] in "TG")
    letters = "JZIHGFEDCBA" if found[0] in "ST" else "XWUTRQPNMLK"
    return found[0] == "M" or letters[total % 11] == found[-1]


def finnish(text: str) -> bool:
    found = plain(text)
    return "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(found[:6] + found[-4:-1]) % 31] == found[-1]
