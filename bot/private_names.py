"""Names of people in scripts with spaces: by lists of common names, and by the words that lead to one.

Lists know the usual ones; a cue such as `my name is` or `Frau` knows the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from roost.private_lists import listed
from roost.private_rules import Item, form

FULL, PART, CUED = 0.45, 0.35, 0.45
WORD = re.compile(r"[A-Za-zÀ-ÖØ-öø-ɏḀ-ỿͰ-ϿЀ-ӿ]+(?:['’-][A-Za-zÀ-ÖØ-öø-ɏḀ-ỿͰ-ϿЀ-ӿ]+)*")
LONGEST = 5  # words of one name
PARTICLES = frozenset(
    [
        "von",
        "van",
        "de",
        "der",
        "den",
        "del",
        "della",
        "di",
        "da",
        "dos",
        "du",
        "la",
        "le",
        "el",
        "al",
        "bin",
        "ibn",
        "ter",
        "ten",
        "zu",
    ]
)
TITLES = (
    r"mr|mrs|ms|miss|mx|dr|prof|professor|doctor|sir|madam|herr|herrn|frau|fräulein|monsieur|madame|mademoiselle|mme"
    r"|mlle|señora?|sra?|srta|doña"
    r"|meneer|mevrouw|mevr|dhr|signora?|aunt|uncle|auntie|grandma|grandpa|tante|onkel|oma|opa|tía|tío|господин|госпожа"
)
KIN = (
    "wife|husband|partner|son|daughter|brother|sister|mother|father|mum|mom|dad|boss|manager|friend|colleague"
    "|coworker|neighbou?r|doctor|dentist|lawyer"
    "|landlord|landlady|therapist|girlfriend|boyfriend|fiancée?|ex|cousin|nephew|niece|teacher|client|patient"
    "|assistant|roommate|flatmate|uncle|aunt"
    "|grandmother|grandfather|accountant|nanny|tenant|supervisor|student|stepson|stepdaughter|godson|secretary"
)
KIN_DE = (
    "mann|frau|sohn|tochter|bruder|schwester|mutter|vater|chef|chefin|freund|freundin|kollege|kollegin|nachbar"
    "|nachbarin|arzt|ärztin|anwalt|anwältin"
    "|vermieter|vermieterin|oma|opa|tante|onkel|cousin|neffe|nichte|lehrer|lehrerin|kunde|kundin|partner|partnerin"
    "|mitbewohner|mitbewohnerin"
)
KIN_FR = (
    "mari|femme|fils|fille|frère|sœur|soeur|mère|père|patron|patronne|ami|amie|collègue|voisin|voisine|médecin"
    "|avocat|avocate|propriétaire|copain|copine"
    "|cousin|cousine|oncle|tante|neveu|nièce|client|cliente|chef|cheffe|compagnon|compagne|épouse|époux"
)
KIN_ES = (
    "marido|esposo|esposa|mujer|hijo|hija|hermano|hermana|madre|padre|jefe|jefa|amigo|amiga|compañero|compañera"
    "|vecino|vecina|médico|médica|abogado"
    "|abogada|casero|casera|novio|novia|primo|prima|tío|tía|sobrino|sobrina|cliente|clienta|doctor|doctora"
)
# After these anything may be a name, in capitals or not; it ends where `and`, `from` or a comma begins.
SAYS = (
    r"my (?:full |first |last |legal |maiden )?name is|my name's|i am called|they call me"
    r"|ich hei(?:ß|ss)e|mein name ist|je m['’]appelle|mon nom est|me llamo|mi nombre es"
    r"|mi chiamo|il mio nome è|ik heet|mijn naam is|meu nome é|chamo-me|jag heter|jeg heter|jeg hedder|nazywam się"
    r"|mam na imię|меня зовут"
    r"|benim adım|nimeni on|mă numesc|jmenuji se|a nevem"
)
# After these only words with a capital are.
LEADS = (
    r"the name is|(?:(?:first|last|full|family|given) ?)?name ?:|(?:vor|nach)name ?:|(?:pré)?nom ?:|nombre ?:"
    r"|apellidos? ?:|naam ?:|"
    rf"(?:{TITLES})\.?|(?:my|our|his|her|their) (?:\w{{2,10}} )?(?:{KIN}),?|(?:mein|unser|sein|ihr)e?[mnrs]? "
    rf"(?:{KIN_DE}),?|(?:mon|ma|mes|notre) (?:{KIN_FR}),?"
    rf"|(?:mi|nuestr[oa]|su) (?:{KIN_ES}),?|i['’]?a?m|this is|it['’]s|call me|named|called|signed(?: by)?|regards,?"
    rf"|cheers,?|sincerely,?|love,|thanks,|yours,"
    r"|dear|hello|hi|hey|attn:?|contact(?: person)?:?|patient:?|customer:?|client:?|tenant:?|recipient:?|ich bin"
    r"|hier ist|namens|kontakt:?|liebe[r]?|hallo|grü(?:ß|ss)e,?"
    r"|je suis|c['’]est|nommée?|cher|chère|bonjour|cordialement,?|soy|se llama|llamad[oa]|querid[oa]|estimad[oa]"
    r"|hola|saludos,?|ik ben|beste|sono|caro|cara|ciao"
    r"|heißt|s['’]appelle|heet|si chiama"
)
SAYING = form(rf"(?<![A-Za-z])(?:{SAYS})[ \t]{{0,2}}[:：]?[ \t]{{0,2}}")
LEADING = form(
    rf"(?<![A-Za-z])(?:{LEADS})[ \t]{{1,2}}(?:\n{{1,2}}[ \t]{{0,2}})?|(?:regards|cheers|sincerely|grüße|cordialement"
    rf"|saludos|thanks),\n{{1,2}}"
)
# After these two words with capitals are a person, and one is after the first of them.
ASKED = (
    r"tell|remind|ask|phone|invite|thank|text|meet|met|saw|see|call|email|e-mail|visit|with|that|and|did|does|has|is"
    r"|was|about|from|by|to|for"
)
ASKED += (
    r"|mit|von|an|für|bei|hat|frag|und|wann kommt|triff|ruf|sag|avec|pour|que|vu|à|chez|et|par|appelle|con|para|a"
    r"|vio|y|por|llama|vuelve|met|door|aan|bij"
)
ASKING = form(rf"(?<![A-Za-zÀ-ÿ])(?:{ASKED})[ \t]")
SURELY = re.compile(r"(?:tell|remind|ask|phone|invite|thank|meet|met|saw)\s", re.I)
# Places and products whose first word says so; and who is asked without being a person.

GUESSED = re.compile(
    r"(?:i['’]?a?m|it['’]s|this is|ich bin|hier ist|je suis|c['’]est|soy|ik ben|sono|hello|hi|hey|hallo|bonjour"
    r"|hola|ciao|thanks,|called|love,)\s*",
    re.I,
)
# What stands after a cue, or begins a sentence, without being anybody's name.


@dataclass(frozen=True, slots=True)
class Word:
    text: str
    start: int
    end: int

    @property
    def capital(self) -> bool:
        return self.text[0].isupper() and not (self.text.isupper() and len(self.text) > 1 and "-" not in self.text)


@cache
def lists() -> dict[str, frozenset[str]]:
    """The names of `private_names.txt` by their heading: `given`, `ambiguous`, `surnames`, `nobody`, `others`."""
    return {name: frozenset(words) for name, words in listed("private_names.txt").items()}


def names(text: str) -> Iterator[Item]:
    """Every name of a person; some lie over one another."""
    words = [Word(match.group(), *match.span()) for match in WORD.finditer(text)]
    starts = {word.start: at for at, word in enumerate(words)}
    for match in SAYING.finditer(text):
        yield from item(run(text, words, starts.get(match.end()), shy=False), CUED)
    for match in LEADING.finditer(text):
        found = run(text, words, starts.get(match.end()), shy=True)
        if found and (GUESSED.fullmatch(match.group()) is None or any(map(certain, found)) or proper(found)):
            yield from item(found, CUED)
    for match in ASKING.finditer(text):
        found = run(text, words, starts.get(match.end()), shy=True)
        if found and asked(found, SURELY.fullmatch(match.group()) is not None):
            yield from item(found, PART)
    yield from by_list(text, words)


def item(found: list[Word], sensitivity: float) -> Iterator[Item]:
    if found:
        yield Item("name", found[0].start, found[-1].end, sensitivity)


def proper(found: list[Word]) -> bool:
    """Whether a guess may stand on its form: two or three words with capitals, as `I'm Zorblax Quux`."""
    return 2 <= len(found) <= 3 and not any(word.text.casefold() in lists()["others"] for word in found)


def asked(found: list[Word], surely: bool) -> bool:
    """Whether a person is spoken of: two words with capitals that begin no place or product, or surely one."""
    if any(word.text.casefold() in lists()["others"] or len(word.text) < 2 for word in found):
        return False
    return proper(found) or (surely and len(found) == 1)


def run(text: str, words: list[Word], at: int | None, shy: bool) -> list[Word]:
    """The words of one name from a place on. `shy` takes only words with a capital."""
    found: list[Word] = []
    while at is not None and at < len(words) and len(found) < LONGEST:
        word = words[at]
        if found and not joined(text[found[-1].end : word.start], found[-1]):
            break
        particle = bool(found) and word.text.casefold() in PARTICLES and at + 1 < len(words) and words[at + 1].capital
        if not particle and not begins(word, found, shy):
            break
        found.append(word)
        at += 1
    while found and found[-1].text in PARTICLES:
        found.pop()
    return trimmed(found)


def begins(word: Word, found: list[Word], shy: bool) -> bool:
    """Whether a word may go on with a name that already has these words."""
    if word.text.casefold() in lists()["nobody"] and not (found and word.capital and word.text in lists()["ambiguous"]):
        return word.capital and word.text in lists()["ambiguous"]
    if word.capital or (word.text.isupper() and len(word.text) == 1 and bool(found)):
        return True
    if shy:
        return False
    return not found or (len(found) == 1 and not found[0].capital and word.text.title() in everyone())


def joined(between: str, before: Word) -> bool:
    """Whether two words belong to one name by what is between them; a full stop only after an initial."""
    return between == " " or (
        between in (". ", ".") and (len(before.text) <= 2 or before.text.casefold() in ("jr", "sr", "mrs", "prof"))
    )


def trimmed(found: list[Word]) -> list[Word]:
    """Without a possessive's `'s`, which is grammar and not the name."""
    if found and found[-1].text[-2:] in ("'s", "’s"):
        last = found[-1]
        found[-1] = Word(last.text[:-2], last.start, last.end - 2)
    return [word for word in found if word.text]


@cache
def everyone() -> frozenset[str]:
    return lists()["given"] | lists()["ambiguous"] | lists()["surnames"]


def bare(word: str) -> str:
    """A word without a possessive, hyphenated given names by their first."""
    return re.sub(r"['’]s?$", "", word)


def certain(word: Word) -> bool:
    """Whether a word is a given name that is nothing else."""
    name = bare(word.text)
    given = lists()["given"]
    return name in given or ("-" in name and all(part in given for part in name.split("-")))


def maybe(word: Word) -> bool:
    return bare(word.text) in lists()["ambiguous"]


def by_list(text: str, words: list[Word]) -> Iterator[Item]:
    """Names that begin with a listed given name, or end with a listed surname after a word with a capital."""
    at, surnames = 0, lists()["surnames"]
    while at < len(words):
        word = words[at]
        found: list[Word] = []
        if word.capital and (certain(word) or maybe(word) or surname_next(text, words, at)):
            found = run(text, words, at, shy=True)
            found = found if word.text.casefold() not in lists()["nobody"] or len(found) > 1 else []
            if not any(map(certain, found[:1])) and not any(
                bare(one.text) in surnames or certain(one) for one in found[1:]
            ):
                found = []
        yield from item(found, FULL if len(found) > 1 else PART)
        at += max(1, len(found))


def surname_next(text: str, words: list[Word], at: int) -> bool:
    """Whether the next word, beside this one, is a listed surname: `Zorblax Johnson`, but not `Dear Johnson`."""
    if (
        at + 1 >= len(words)
        or words[at].text.casefold() in lists()["nobody"] | lists()["others"]
        or len(words[at].text) < 3
    ):
        return False
    between = text[words[at].end : words[at + 1].start]
    opens = words[at].start == 0 or text[: words[at].start].rstrip(" \"'“(")[-1:] in (".", "!", "?", "\n", ":", "")
    return between == " " and not opens and bare(words[at + 1].text) in lists()["surnames"]
