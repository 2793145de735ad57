"""Street addresses as they are written in English, German, Dutch, French, Spanish and Italian."""

from __future__ import annotations

import re
from collections.abc import Iterator

from roost.private_rules import Item

A = "A-Za-zÀ-ÖØ-öø-ɏ"
CAP = "A-ZÀ-ÖØ-Þ"
NAME = rf"[{CAP}][{A}.'’-]{{1,30}}+"
END = rf"(?![{A}0-9])"
STREET = (
    "Street|St|Road|Rd|Avenue|Ave|Av|Lane|Ln|Drive|Dr|Court|Ct|Boulevard|Blvd|Way|Place|Pl|Square|Sq|Terrace|Ter"
    "|Close|Crescent|Cres|Parkway|Pkwy"
    "|Highway|Hwy|Trail|Trl|Circle|Cir|Gardens|Grove|Hill|Mews|Walk|Row|Quay|Alley|Loop|Plaza|Path|Green|Rise|Vale"
    "|View|Park|Heights|Ridge|Run|Broadway|Point"
)
FLAT = r"(?:,? ?(?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|Fl|Room|Rm|#)\.? ?#?[A-Za-z0-9-]{1,6})"
POSTCODE = r"[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}"
TOWN = rf"{NAME}(?: {NAME}){{0,2}}"
AMERICAN = rf"(?:,? {TOWN})?(?:,? (?:[A-Z]{{2}}|{NAME}))?,? \d{{5}}(?:-\d{{4}})?(?!\d)"
ENGLISH = re.compile(
    rf"(?<![{A}0-9.,])(?:(?:Flat|Apt\.?|Apartment|Unit) \d{{1,4}}[A-Za-z]?,? "
    rf")?\d{{1,5}}[A-Za-z]?(?:[-/]\d{{1,4}})?,? (?:[NSEW]\.? |North |South |East |West )?"
    rf"(?:(?:{NAME}|\d{{1,3}}(?:st|nd|rd|th)) ){{1,4}}?(?:{STREET}){END}\.?(?: (?:NW|NE|SW|SE|N|S|E|W){END})?{FLAT}?"
    rf"(?:{AMERICAN}|(?:,? {TOWN}){{0,2}},? {POSTCODE}{END}|(?:, {TOWN})(?:, (?:[A-Z]{{2}}{END}|{TOWN}))?)?"
)
BROADWAY = re.compile(
    rf"(?<![{A}0-9.,])\d{{1,5}} (?:Broadway|(?:Avenue|Ave\.?) [A-Z]|(?:Highway|Route|County Road) "
    rf"\d{{1,4}}){END}{FLAT}?(?:{AMERICAN})?"
)
BOX = re.compile(
    rf"(?<![{A}])(?:P\.? ?O\.? ?Box|Postfach|Postbus|BP|Apartado) \d{{1,6}}(?:,? \d{{4,5}} {TOWN}|{AMERICAN}|,? "
    rf"{TOWN},? {POSTCODE})?"
)
BRITISH = re.compile(rf"(?<![{A}0-9]){POSTCODE}{END}")
DOOR = r"\d{1,4}(?: ?[a-zA-Z](?![A-Za-zÀ-ɏ]))?(?: ?[-–/] ?\d{1,4}[a-z]?)?"
CITY = rf"(?:,? ?\n?(?:[A-Z]{{1,2}}-)?\d{{4,5}} {NAME}(?:[ /-]{NAME}|[ ](?:am|an der|im|bei|ob der)[ ]{NAME}){{0,2}})"
DUTCH_CITY = rf"(?:,? ?\d{{4}} ?[A-Z]{{2}}(?:,? {TOWN})?)"
GERMAN = re.compile(
    rf"(?<![{A}])(?:{NAME}[ -]){{0,3}}(?:[{CAP}][{A}-]{{0,30}}?(?:straße|strasse|str\.|weg|gasse|platz|allee|ring"
    rf"|ufer|damm|markt|hof|steig|chaussee|graben|berg|garten|promenade)"
    rf"|Straße|Strasse|Str\.|Weg|Gasse|Platz|Allee|Ring|Ufer|Damm|Markt|Chaussee)"
    rf" {DOOR}{END}{CITY}?"
)
GERMAN_TOO = re.compile(
    rf"(?<![{A}])(?:Am|An der|An den|Auf der|Auf dem|Im|In der|In den|Zum|Zur|Unter den|Hinter der|Alte|Alter|Neue"
    rf"|Neuer|Große|Kleine) {NAME}(?: {NAME})? {DOOR}{CITY}"
)
DUTCH = re.compile(
    rf"(?<![{A}])(?:(?:{NAME}|van|de|der|den|het) ){{0,4}}[{CAP}]?[{A}-]{{1,30}}?(?:straat|laan|weg|plein|gracht"
    rf"|kade|dreef|hof|singel|steeg|dijk|pad|markt|plantsoen) {DOOR}{END}{DUTCH_CITY}?"
)
VOIE = (
    "rue|avenue|av\\.|boulevard|bd\\.?|place|chemin|allée|allee|impasse|quai|cours|route|square|passage|sentier"
    "|faubourg|esplanade|résidence|villa"
)
FRENCH = re.compile(
    rf"(?<![{A}0-9])\d{{1,4}}(?: ?(?:bis|ter|quater|[A-D]))?,? (?i:{VOIE}) (?:(?:de la|de l['’]|des|du|de|d['’]|le"
    rf"|la|les|l['’]|à|aux?)[ ]?){{0,2}}"
    rf"[{A}0-9.'’-]{{2,30}}+(?: (?:de|du|des|la|le|{NAME})){{0,4}}(?:,? ?\d{{5}} {NAME}(?:[ -]{NAME}){{0,2}})?"
)
SPANISH = re.compile(
    rf"(?<![{A}])(?i:calle|c/|avenida|avda\.?|av\.|paseo|p\.º|plaza|pza\.?|camino|carrera|ronda|travesía|glorieta"
    rf"|carretera|rua|praça|via|viale|piazza|corso|largo|vicolo)"
    rf" ?(?:(?:de la|de los|de las|del|de|della|dei|delle|di|da|do|dos|la|el|los|las) ){{0,2}}{NAME}(?: (?:de|del|la"
    rf"|las|los|y|di|{NAME})){{0,4}}"
    rf",? (?:n\.?[º°]? ?|núm\.? ?|número |nº ?)?\d{{1,4}}[A-Za-z]?{END}(?:,? \d{{1,2}}[.]?[ºª°](?: ?[A-Z]| (?:izq"
    rf"|dcha)\.?)?)?(?:,? \d{{4,5}}(?:-\d{{3}})? {TOWN})?"
)
FORMS = (ENGLISH, BROADWAY, BOX, BRITISH, GERMAN, GERMAN_TOO, DUTCH, FRENCH, SPANISH)


def addresses(text: str) -> Iterator[Item]:
    """Every street address; some lie over one another."""
    if re.search("[0-9]", text) is None:
        return
    for pattern in FORMS:
        for match in pattern.finditer(text):
            yield Item("address", match.start(), match.end(), 0.4 if pattern is BRITISH else 0.6)
