"""What private data looks like where its form gives it away: numbers, addresses of mail and machines, dates of birth.

Neighbours are compared with ASCII letters and digits only: for `\\b` and `\\w` a Chinese character is a letter, and
nothing beside one would be found. Every repetition is bounded or possessive, so that time grows with the text only.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from roost import private_checks as checks

LEFT, RIGHT = "(?<![A-Za-z0-9])", "(?![A-Za-z0-9])"
FREE, END = r"(?<![A-Za-z0-9.,+-])", r"(?![A-Za-z0-9]|[-.,]\d)"  # no part of a longer number either


@dataclass(frozen=True, slots=True)
class Item:
    """One piece of private data: `text[start:end]`, its kind, and how much it would tell a stranger (0 to 1)."""

    kind: str
    start: int
    end: int
    sensitivity: float


@dataclass(frozen=True, slots=True)
class Rule:
    """A form. The group `it` is what is private, where the rest only leads to it; `check` may refuse it."""

    kind: str
    sensitivity: float
    pattern: re.Pattern[str]
    check: Callable[[str], bool] | None = None
    hint: str = ""  # one of these characters must be in the text; empty: a digit

    def find(self, text: str) -> Iterator[Item]:
        group = "it" if "it" in self.pattern.groupindex else 0
        for match in self.pattern.finditer(text):
            start, end = match.span(group)
            if start < end and (self.check is None or self.check(text[start:end])):
                yield Item(self.kind, start, end, self.sensitivity)


def form(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII | re.IGNORECASE)


def number(
    pattern: str, check: Callable[[str], bool] | None = None, sensitivity: float = 0.9, kind: str = "id"
) -> Rule:
    """A number that is part of no longer one."""
    return Rule(kind, sensitivity, form(f"{FREE}(?:{pattern}){END}"), check)


def after(cue: str, pattern: str, check: Callable[[str], bool] | None = None, sensitivity: float = 0.9) -> Rule:
    """A number that only its cue gives away: `BSN 123456782`, `passport no. X1234567`."""
    between = (
        r"[ \t]{0,2}(?:(?:number|nummer|numero|número|numéro|no|nr|nº|n°|num|code|号码|號碼|号|is|ist|est|es|è|:|："
        r"|#|=|是|为|\.|\))[ \t]{0,2}){0,4}"
    )
    return Rule("id", sensitivity, form(rf"(?<![A-Za-z])(?:{cue}){between}(?P<it>{pattern}){RIGHT}"), check)


def several(text: str) -> bool:
    """Whether there are enough digits for a number, and not one digit only."""
    return sum(one.isdigit() for one in text) >= 5 and len(set(text)) > 2


def version_4(text: str) -> bool:
    """An address of a machine in the world or the house, not a version, nor this machine itself."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or text.endswith(".0.0"))


def version_6(text: str) -> bool:
    return text.count(":") >= 2 and len(text) > 6 and version_4(text)


def is_date(text: str) -> bool:
    return DATE_ONLY.fullmatch(text) is not None


DATE_ONLY = re.compile(
    r"(?:19|20)\d\d[-/. ](?:0?[1-9]|1[0-2])[-/. ]\d{1,2}|\d{1,2}[-/. ]\d{1,2}[-/. ](?:19|20)\d\d", re.ASCII
)


def dialled(text: str) -> bool:
    """7 to 15 digits (E.164), not all alike, and no date."""
    digits = checks.digits_of(text)
    return 7 <= len(digits) <= 15 and len(set(digits)) > 1 and not is_date(text)


def shaped(text: str) -> bool:
    """A number in groups as telephones have it: not years, not an amount with thousands."""
    groups = re.findall(r"\d+", text)
    if any(len(one) == 1 for one in groups[1:]) or re.fullmatch(
        r"\d{1,3}(?:[ .]000)+|(?:19|20)\d\d[ -](?:19|20)\d\d", text
    ):
        return False
    return dialled(text) and len(checks.digits_of(text)) >= 9


EMAIL = Rule(
    "email",
    0.5,
    form(
        rf"(?<![A-Za-z0-9._%+-])[A-Za-z0-9_](?:[A-Za-z0-9._%+'-]{{0,63}}+)@(?:[a-z0-9-]{{1,63}}\.){{1,6}}[a-z]{{2,24}}{RIGHT}"
    ),
    hint="@",
)
CREDENTIALS = Rule(
    "url",
    1.0,
    form(rf"{LEFT}[a-z][a-z0-9+.-]{{1,20}}://[^\s:/@?#]{{0,100}}:[^\s/@?#]{{1,200}}@[^\s<>\"'）)，。；]{{1,300}}"),
    hint="@",
)
SIGNED = Rule(
    "url",
    0.9,
    form(
        rf"{LEFT}https?://[^\s<>\"'?#]{{1,500}}\?[^\s<>\"'#]{{0,500}}?(?:access_token|token|api_?key|sig|signature"
        rf"|secret|password|pwd|code)"
        r"=[A-Za-z0-9%._~+/-]{8,500}[^\s<>\"'）)，。；]{0,500}"
    ),
    hint="=",
)
CARDS = (
    number(r"\d{4}[ -]\d{4}[ -]\d{4}[ -]\d{1,7}", checks.card, 0.9, "card"),
    number(r"\d{4}[ -]\d{6}[ -]\d{4,5}", checks.card, 0.9, "card"),
    number(r"\d{13,19}", checks.card, 0.9, "card"),
    number(r"[A-Z]{2}\d\d(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,3})?", checks.iban, 0.8, "iban"),
    number(r"[A-Z]{2}\d\d[A-Z0-9]{11,30}", checks.iban, 0.8, "iban"),
)
IDS = (
    number(r"\d{6}[ -]?(?:19|20)\d{6}[ -]?\d{3}[\dX]", checks.chinese),
    number(r"\d{3}-\d\d-\d{4}", checks.american),
    after("SSN|social security|ITIN", r"\d{3}[ .-]?\d\d[ .-]?\d{4}", checks.american),
    number(r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D]"),
    number(r"(?<!\d )\d{3} \d{3} \d{4}(?! \d)", checks.british_health),
    after("NHS", r"\d{3}[ -]?\d{3}[ -]?\d{4}", checks.british_health),
    after("BSN|burgerservice|sofi", r"\d{4}[. ]?\d\d[. ]?\d{3}|\d{9}", checks.dutch),
    number(r"\d{4}\.\d\d\.\d{3}", checks.dutch),
    number(r"\d{2} ?\d{3} ?\d{3} ?\d{3}", checks.german, 0.8),
    number(r"[12] ?\d\d ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d", checks.french),
    number(r"(?:\d{8}|[XYZ]-?\d{7})[ -]?[A-Z]", checks.spanish),
    number(r"[A-Z]{6}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z]", checks.italian),
    number(r"\d\d\.?\d\d\.?\d\d-?\d{3}\.?\d\d", checks.belgian, 0.8),
    number(r"\d{11}", checks.polish),
    number(r"(?:19|20)?\d{6}[-+]\d{4}", checks.swedish),
    number(r"756[. ]?\d{4}[. ]?\d{4}[. ]?\d\d", checks.swiss),
    number(r"\d{3}\.\d{3}\.\d{3}-\d\d", checks.brazilian),
    after("CPF", r"\d{11}", checks.brazilian),
    number(r"(?<!\d )\d{4} \d{4} \d{4}(?! \d)", checks.indian),
    after("Aadhaar", r"\d{12}", checks.indian),
    number(r"\d{6}-[1-8]\d{6}", checks.korean),
    number(r"[A-Z][12]\d{8}", checks.taiwanese),
    number(r"[A-Z]{1,2}\d{6}\([\dA]\)", checks.hong_kong),
    number(r"[STFGM]\d{7}[A-Z]", checks.singaporean),
    number(r"\d{6}[-+A]\d{3}[\dA-Y]", checks.finnish),
    after(
        "passport|reisepass|passeport|pasaporte|paspoort|passaporto|护照|護照|通行证|驾驶证|驾照|driver'?s "
        "licen[cs]e|driving licen[cs]e"
        "|führerschein|permis de conduire|personalausweis|identity card|ausweis|rijbewijs|carte d'identité|carta "
        "d'identità"
        "|tax id|steuer-?id|steueridentifikationsnummer|tax file|national id|身份证|社保卡?|社会保障|医保卡?"
        "|マイナンバー|NIF|DNI",
        r"[A-Z0-9](?:[A-Z0-9-]{4,18}+)",
        several,
    ),
)
ACCOUNTS = Rule(
    "account",
    0.6,
    form(
        r"(?<![A-Za-z])(?:QQ|微信号?|wechat(?: id)?|weixin|支付宝账?号?|账号|帐号|银行账户|卡号|account (?:number"
        r"|no\.?)|acct\.?|sort code"
        r"|kontonummer|konto-?nr\.?|rekeningnummer|numéro de compte|número de cuenta|customer (?:number|id)"
        r"|kundennummer)"
        r"[ \t]{0,2}(?:(?:号码?|是|为|is|ist|est|es|number|[:：#=.])[ \t]{0,2}){0,3}"
        r"(?P<it>[A-Za-z0-9](?:[A-Za-z0-9_-]{4,30}+)(?: \d{2,4}){0,4})(?![A-Za-z0-9])"
    ),
    lambda word: len(word) >= 5 and any(one.isdigit() or one == "_" for one in word),
)
# Where a phone number leads is written before it; then any seven digits will do.
PHONE_CUE = (
    r"tel(?:ephone|efoon|efon|éphone|éfono|efono)?|phone|mobile|cell|call(?: me)?(?: (?:at|on))?|text me(?: at| on)?"
    r"|whatsapp|handy(?:nummer)?"
    r"|telefonnummer|mobilnummer|rufnummer|portable|numéro|móvil|celular|número|cellulare|nummer|number|fax|reach "
    r"me(?: at| on)?|ring(?: me)?(?: on)?"
    "|电话|手机号?|座机|联系方式|致电|拨打|打给我|号码|電話|手機"
)
PHONES = (
    Rule(
        "phone",
        0.5,
        form(
            rf"(?<![A-Za-z])(?:{PHONE_CUE})[ \t]{{0,2}}(?:(?:number|nummer|no|is|ist|est|es|on|at|号码|是|为"
            rf"|[:：.])[ \t]{{0,2}}){{0,3}}"
            r"(?P<it>[+(]?\d(?:[ ./()-]{0,2}\d){5,14})(?!\d)"
        ),
        dialled,
    ),
    number(r"(?:\+|00)[1-9](?:[ ./()-]{0,2}\d){6,14}(?: ?(?:ext\.?|x) ?\d{1,5})?", dialled, 0.5, "phone"),
    number(
        r"(?:1[ .-]?)?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])\d{3}[ .-]\d{4}(?: ?(?:ext\.?|x) ?\d{1,5})?",
        dialled,
        0.5,
        "phone",
    ),
    number(r"(?:86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}", dialled, 0.5, "phone"),
    number(r"(?:\(0\d{2,3}\) ?|0\d{2,3}[ -])[2-8]\d{6,7}(?:-\d{1,5})?", dialled, 0.5, "phone"),
    number(r"\(?0\d{1,5}\)?(?:[ /.-]{1,3}\d{2,9}){1,5}", shaped, 0.5, "phone"),
    number(r"0[1-9]\d{8,9}", dialled, 0.5, "phone"),
    number(r"[6789]\d{2}(?: \d{3}){2}|[67]\d{8}|[6789]\d{2}(?: \d\d){3}", dialled, 0.5, "phone"),
    number(r"\(?\d{2,4}\)?(?:[ .-]\d{2,5}){2,5}(?: ?x\d{1,5})?", shaped, 0.4, "phone"),
)
MACHINES = (
    Rule("ip", 0.3, form(r"(?<![A-Za-z0-9.])(?:\d{1,3}\.){3}\d{1,3}(?![A-Za-z0-9]|\.\d)"), version_4),
    Rule("ip", 0.3, form(r"(?<![A-Za-z0-9:.])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?![A-Za-z0-9:])"), version_6, ":"),
    Rule("ip", 0.3, form(r"(?<![A-Za-z0-9:-])[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}(?![A-Za-z0-9:-])"), None, ":-"),
)
MONTHS = (
    "jan|feb|mar|apr|may|jun|jul|aug|sept?|oct|nov|dec|mär|mrz|mai|okt|dez|janv|févr?|avr|juin|juil|août|déc|ene|abr"
    "|ago|dic|mrt|mei|gen|mag|giu|lug|set|ott"
)
DATE = (
    rf"(?:\d{{1,2}}(?:st|nd|rd|th|er|\.)?[ ](?:of |de )?(?:{MONTHS})[a-zäéûç]{{0,8}}\.?(?: de|,)? (?:19|20)\d\d"
    rf"|(?:{MONTHS})[a-zé]{{0,8}}\.? \d{{1,2}}(?:st|nd|rd|th)?,? (?:19|20)\d\d"
    r"|(?:19|20)\d\d ?年 ?\d{1,2} ?月 ?\d{1,2} ?[日号]|(?:19|20)\d\d[-/.]\d{1,2}[-/.]\d{1,2}"
    r"|\d{1,2}[-/.]\d{1,2}[-/.](?:19|20)?\d\d)"
)
BIRTH = (
    r"born(?: on)?|date of birth|d\.?o\.?b\.?|birth ?da(?:y|te)|出生日期|出生年月日?|出生于|出生|生日|生于"
    r"|geboren(?: am)?|geburtsdatum|geburtstag|geb\."
    r"|née?(?: le)?|date de naissance|anniversaire|nac[ií][óo]?(?: el)?|nacid[oa](?: el)?|fecha de nacimiento"
    r"|cumpleaños|geboortedatum|geboren op"
    r"|nat[oa](?: il)?|data di nascita"
)
BIRTHDAYS = (
    Rule(
        "birth",
        0.6,
        form(
            rf"(?<![A-Za-z])(?:{BIRTH})(?:[ \t]{{0,2}}(?:is|was|on|am|ist|est|le|es|el|il|op|是|为|在|于"
            rf"|[:：,])){{0,3}}[ \t]{{0,2}}(?P<it>{DATE})(?!\d)"
        ),
    ),
    Rule(
        "birth",
        0.6,
        form(
            rf"(?<![A-Za-z0-9.])(?P<it>{DATE}) ?(?:出生|生人|geboren|is my (?:birthday|date of birth)|是我的?(?:生日"
            rf"|出生))"
        ),
    ),
)
RULES = (EMAIL, CREDENTIALS, SIGNED, *CARDS, *IDS, ACCOUNTS, *PHONES, *MACHINES, *BIRTHDAYS)


def by_form(text: str) -> Iterator[Item]:
    """Every item that its form gives away; some lie over one another."""
    has_digit = re.search("[0-9]", text) is not None
    for rule in RULES:
        if any(one in text for one in rule.hint) if rule.hint else has_digit:
            yield from rule.find(text)
