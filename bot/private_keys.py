"""Keys, tokens and passwords: by their vendor's prefix, by their cue, and by looking like no word at all."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from roost.private_lists import listed
from roost.private_rules import LEFT, Item, Rule, form

# Prefixes as their vendors document them for secret scanners.
PREFIXED = (
    r"sk-(?:ant-|proj-|or-v1-|svcacct-)?[A-Za-z0-9_-]{20,200}+|(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{16,200}+"
    r"|whsec_[A-Za-z0-9+/=]{16,100}+"
    r"|gh[pousr]_[A-Za-z0-9]{30,255}+|github_pat_[A-Za-z0-9_]{22,255}+|glpat-[A-Za-z0-9_-]{20,60}+|(?:AKIA|ASIA|ABIA"
    r"|ACCA)[A-Z0-9]{16}"
    r"|AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,300}+|GOCSPX-[A-Za-z0-9_-]{20,40}+"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,200}+|xapp-[A-Za-z0-9-]{10,200}+"
    r"|hf_[A-Za-z0-9]{30,60}+|gsk_[A-Za-z0-9]{40,80}+|xai-[A-Za-z0-9]{40,120}+|pplx-[A-Za-z0-9]{40,80}+"
    r"|r8_[A-Za-z0-9]{30,60}+|npm_[A-Za-z0-9]{36}"
    r"|pypi-[A-Za-z0-9_-]{16,250}+|dop_v1_[a-f0-9]{64}|SG\.[A-Za-z0-9_-]{16,40}\.[A-Za-z0-9_-]{16,60}+"
    r"|key-[a-f0-9]{32}|SK[a-f0-9]{32}|AC[a-f0-9]{32}"
    r"|shpat_[a-fA-F0-9]{32}|sq0(?:atp|csp)-[A-Za-z0-9_-]{20,60}+|EAA[A-Za-z0-9]{40,250}+|LTAI[A-Za-z0-9]{12,30}+"
    r"|AKID[A-Za-z0-9]{13,40}+"
    r"|eyJ[A-Za-z0-9_-]{8,2000}+\.eyJ[A-Za-z0-9_-]{8,4000}+\.[A-Za-z0-9_-]{0,2000}+|\d{8,10}:AA[A-Za-z0-9_-]{33}"
    r"|AGE-SECRET-KEY-1[A-Z0-9]{58}"
    r"|[MN][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,38}|hooks\.slack\.com/services/[A-Za-z0-9/]{20,80}+"
)
VENDORS = Rule("key", 1.0, re.compile(rf"{LEFT}(?:{PREFIXED})", re.ASCII))
BLOCK = re.compile(r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----")
BLOCK_END = re.compile(r"-----END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----")
WORD = r"[^\s，。；、！？\"“”‘’「」（）]"
NAMED = Rule(
    "key",
    1.0,
    form(
        r"(?<![A-Za-z])(?:[A-Za-z0-9]{1,20}[_-]){0,3}(?:api[ _-]?key|secret(?:[ _-]?(?:key|token))?|access[ "
        r"_-]?(?:key|token)|auth[ _-]?token|bearer|token"
        r"|client[ _-]?secret|private[ _-]?key|密钥|秘钥|令牌|API密钥|schlüssel|clé(?: api)?|clave(?: api)?)[\"']?"
        r"(?:[ \t]{0,2}(?:[:：=]|is|是|为|ist|est|es)){0,2}[ "
        r"\t]{0,2}[\"'“`]?(?P<it>(?=[A-Za-z0-9_./+=-]{0,40}\d)[A-Za-z0-9_./+=-]{12,300})"
    ),
)
SAID = (
    r"password|passwort|passphrase|passcode|pass ?word|pwd|kennwort|mot de passe|mdp|contraseña|wachtwoord|senha"
    r"|palavra-passe|hasło|пароль|şifre|lösenord"
)
SAID += (
    r"|密码|口令|密碼|パスワード|비밀번호|pincode|pin|验证码|取件码|verification code|one[- ]time code|otp|cvv|cvc"
    r"|安全码|Wi-?Fi密码"
)
LINK = r"(?<![A-Za-z])(?:is|was|are|ist|lautet|est|es|sera|è|är|to)(?![A-Za-z])|是|为|為|改成了?|改为|设成|は|는"
# What people say about passwords rather than the password: "my password is wrong".
NOT_ONES = frozenset(listed("private_names.txt")["said of passwords"])


def looks_secret(word: str) -> bool:
    """Whether a word after `password is` may be one."""
    bare = word.strip(".,:;!?*_`").casefold()
    if bare in NOT_ONES or len(bare) < 3:
        return False
    return bare.isascii() or not any("\u4e00" <= one <= "\u9fff" for one in bare)


# Either something like `is` or a colon comes between, or nothing does and the word itself looks like no word.
PASSWORDS = (
    Rule(
        "password",
        1.0,
        form(
            rf"(?<![A-Za-z])(?:{SAID})[\"'”’」]?(?:[ \t]{{1,2}}(?:for|für|pour|para|of|to|on|von|vom|de|du|des|del"
            rf"|della|di|da|do|au|al|à|voor|van)(?:[ \t][A-Za-zÀ-ÿ0-9.'_-]{{1,30}}+){{1,4}}?)?"
            rf"[ \t]{{0,2}}(?:(?:{LINK})[ \t]{{0,2}}[:：]?|[:：=]+)[ "
            rf"\t]{{0,2}}[\"'“‘「`]?(?P<it>{WORD}{{2,99}}[^\s，。；、！？\"“”‘’「」（）.,;:)])"
        ),
        looks_secret,
    ),
    Rule(
        "password",
        1.0,
        form(rf"(?<![A-Za-z])(?:{SAID})[ \t]{{0,2}}(?P<it>(?=[A-Za-z_.@#$%^&*!?+=-]{{0,40}}\d)[!-~]{{4,64}})"),
        lambda word: any(one.isdigit() for one in word.rstrip(".,;!?")),
    ),
)
CHANCE = re.compile(r"(?<![A-Za-z0-9_+/=.-])[A-Za-z0-9_+/=-]{20,512}(?![A-Za-z0-9_+/=-])", re.ASCII)
RECOVERY = Rule(
    "key",
    1.0,
    form(
        r"(?:seed phrase|recovery phrase|mnemonic|助记词)[ \t]{0,2}(?:is|[:：是])?[ \t]{0,2}[:：]?[ "
        r"\t\n]{0,2}(?P<it>[a-z]{3,8}(?: [a-z]{3,8}){11,23})"
    ),
    hint=" ",
)


def entropy(word: str) -> float:
    """Bits a character, by how often each occurs (Shannon)."""
    counts = Counter(word).values()
    return -sum(count / len(word) * math.log2(count / len(word)) for count in counts)


def by_chance(word: str) -> bool:
    """Whether a long word was drawn rather than written: digits among letters of both cases, or hexadecimal."""
    if "/" in word and word.count("/") > 2 and word.islower():
        return False
    digits = sum(one.isdigit() for one in word)
    if max(map(len, re.split("[-_=+/]", word))) < 12:
        return False
    if re.fullmatch("[0-9a-f]{32,128}|[0-9A-F]{32,128}", word):
        return entropy(word) > 3 and 0 < digits < len(word)
    mixed = any(one.islower() for one in word) and any(one.isupper() for one in word)
    return mixed and digits >= 2 and entropy(word) > 3.7 and switches(word) > len(word) / 5


def switches(word: str) -> int:
    """How often neighbours are of another sort: seldom in `MyLongClassName2`, often in a key."""
    sorts = ["d" if one.isdigit() else "u" if one.isupper() else "l" if one.islower() else "o" for one in word]
    return sum(one != other for one, other in pairwise(sorts))


def blocks(text: str) -> Iterator[Item]:
    """Private keys in PEM or PGP's armour; one whose end is missing goes on to the end of the text."""
    at = 0
    while found := BLOCK.search(text, at):
        end = BLOCK_END.search(text, found.end())
        at = end.end() if end else len(text)
        yield Item("key", found.start(), at, 1.0)


def keys_and_passwords(text: str) -> Iterator[Item]:
    """Every key, token and password; some lie over one another."""
    yield from blocks(text)
    for rule in (VENDORS, NAMED, RECOVERY, *PASSWORDS):
        if not rule.hint or any(one in text for one in rule.hint):
            yield from rule.find(text)
    for match in CHANCE.finditer(text):
        if by_chance(match.group()):
            yield Item("key", *match.span(), 0.9)
