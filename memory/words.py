"""Cuts what people write into the words of a search index, and guesses what a misspelt word was meant to be.

Words are in lower case, without accents and without the commonest endings, so that "Cafés" is found by "cafe".
Scripts that put no spaces between words (Chinese, Japanese, Thai, and Korean, whose particles stick to the word
before) are cut into pairs of neighbouring characters. They are parted first where the script changes and at the
commonest particles; a character that is then left alone is a word of its own.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

# Part of the index's format: what was cut otherwise has to be indexed anew.
VERSION = 1

# Of longer words (hashes, links) the beginning counts.
LONGEST = 40

_HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_HIRAGANA = "\u3041-\u309f"
_KATAKANA = "\u30a0-\u30ff\u31f0-\u31ff"
_HANGUL = "\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3"
_UNSPACED = "\u0e01-\u0edf\u1000-\u109f\u1780-\u17dd"  # Thai, Lao, Burmese, Khmer
# The vowel signs of these are marks, which Python's \w leaves out.
_INDIC = "\u0900-\u0963\u0966-\u0dff"

_NOT_SPELT = f"{_HAN}{_HIRAGANA}{_KATAKANA}{_HANGUL}{_UNSPACED}"
_RUNS = re.compile(
    f"((?:(?![{_NOT_SPELT}])[^\\W_]|[{_INDIC}])+)|([{_HAN}]+|[{_HIRAGANA}]+|[{_KATAKANA}]+|[{_HANGUL}]+|[{_UNSPACED}]+)"
)
_PLAIN_RUNS = re.compile("[0-9a-z]+")
_PARTICLES = re.compile("[的了吗嗎呢吧啊呀嘛很我你您他她它们們是]")
# Accents of Latin, Greek and Cyrillic, the vowel points of Hebrew and Arabic.
_MARKS = re.compile("[\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0640]+")
# Korean syllables and Japanese sounds, which come later, would be taken apart as well.
_ACCENTED = re.compile("[\u00a0-\u1fff]+")
_CONTRACTED = re.compile(r"(?<=\w)(?:n['’]t|['’](?:s|t|re|ve|ll|d|m))\b")
_SPECIAL = str.maketrans({"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ı": "i", "’": "'"})

# What questions are made of in the languages most written in chats; it says nothing about what is asked for. Left out
# are words that mean something in English, as the German "war" does: where they are common, they count little anyway.
_STOP = """
a about after again all also am an and any anyone anything are as at be been before being both but by can could
did do does doing done each else ever every few for from get got had has have having he hello her here hers hey hi him
his how i if in into is it its just know let like me mean more most much must my myself no nor not now of
off ok okay on once one only or other our ours out over own please really remember remind said same say see shall she
should so some someone something still such talk talked tell than thank thanks that the their theirs them then there
these they thing things think this those to too up us very want was we well were what when where which while who whom
whose why will with would yes you your yours again ago bye discuss discussed mention mentioned earlier last maybe
hallo danke dankeschon tschuss
aber alle als also am an auch auf aus bei bist bitte da damals dann das dass dein deine dem denn der des dich
dies diese dieser dir doch du ein eine einem einen einer er es euch gewesen haben habe hast hatte hatten
ich ihm ihn ihr ihre im in ist ja kann kannst kein keine konnen mein meine mich mir mit nach nicht noch
nur oder schon sehr sein seine sich sie sind so uber um und uns unser vom von vor wann waren warum was weil welche
welcher welches wenn wer werden wie wieder will wir wird wo wollte wurde zu zum zur
bonjour merci salut
au aux avec avez avons bien ce cela ces cet cette dans de des dit donc du elle elles en est et etait ete etre
eu fait il ils je la le les leur lui ma mais mes moi mon ne nos notre nous on ont ou par pas pourquoi qu quand
que quel quelle quelles quels qui quoi sa se ses sont sur ta te tes toi tu un une vos votre vous
al algo asi como con cual cuando cuanto de del dijo donde el ella ellos en eran eres es esa ese eso esta este esto
estoy fue fueron gracias ha habia hola la las le les lo los mas me mi mis muy nada no nos o para pero por porque
que quien se ser si sobre soy su sus te tengo tiene todo tu tus un una uno unos y ya yo
ao aos as com como da das de dela dele do dos e ela ele eles em essa esse esta este eu foi foram isso isto ja mais mas
me meu minha na nao nas no nos nossa nosso o os ou para pela pelo por porque qual quando quem sao se sem seu sua tem
ter tinha um uma voce voces
ciao grazie prego obrigado obrigada ola oi dank bedankt hoi
ai al alla anche che chi ci con cosa cosi da dal dalla dei del della delle di dov e ed ero gli ha hai
hanno ho i il io l la le lei li lo loro lui ma mi mio ne nel nella no noi non o per perche piu quale quando quanto
quella quello questa questo se sei si sia siamo sono su sua sul suo ti tra tu tuo un una uno vi voi
aan al als bij dat de deze dit doen een en er geen had heb hebben heeft het hij hoe ik in is ja je jij
jou jouw kan maar me mij mijn naar niet nog nu of om onze ook op over te toen tot uit veel voor waar waarom
waren was wat we wel welke werd wie wij wil zal ze zich zij zijn zo
привет спасибо пожалуйста пока здравствуйте
а без был была были было быть в вам вас во вот все всё вы где да для до его ее если есть еще же за и из или им их к как
какая какие какой когда кто ли меня мне мной мой моя мы на нам нас не него нее нет ни но ну о об он она они от по
почему при с себя со так там тебе тебя то тоже только ты у уже что чтобы это этого этот я
"""
_STOP_PAIRS = """
谢谢 謝謝 多谢 多謝 你好 您好 再见 再見
什么 什麼 说什 說什 怎么 怎麼 为什 么样 麼樣 哪里 哪裡 哪儿 哪个 哪些 谁 我 你 您 他 她 它 我们 我們 你们 你們 他们 他們
是 在 有 和 与 就 都 也 很 这 那
这个 那个 這個 那個 还 说 过 说过 记得 得我 时候 時候 一下 没有 沒有 是不 不是 可以 知道 请 問 问 告诉 訴我 诉我
上次 之前 多少 几
です ます した して する から まで ない など こと もの これ それ あれ どこ なに だれ いつ どう よう ました でし
たか ょう しょ ますか です すか
した った たっ って てい いる いま いた ます まし ませ せん せか はな なん ての その この あの どの 何 時 は が を
に で と も の か ね よ へ や
あり りが がと とう どう うも
고마 마워 감사 안녕
무엇 뭐 뭐야 누구 어디 언제 왜 어떻 떻게 내가 나는 너는 우리 그것 이것 했어 있어 있는 는지 였지 했지 었지 었어 였어
이야 야 에 서 을 를 은 는 이 가
"""


def cut(text: str) -> list[str]:
    """The words of a text in their order, each as often as it is there."""
    text = fold(text)
    if text.isascii():
        return list(map(root, _PLAIN_RUNS.findall(text)))
    return [root(run) if spelt else run for run, spelt in _runs(text)]


def ask(text: str) -> dict[str, str]:
    """The words of a question that say what is looked for, as `cut` has them, and as they were written.

    Those are left out that every text has. A word that nobody can misspell (a number, a pair of characters)
    has an empty string for how it was written.
    """
    found: dict[str, str] = {}
    for run, spelt in _runs(fold(text)):
        if run not in STOP:
            found.setdefault(root(run) if spelt else run, run if spelt and run.isalpha() else "")
    return found


def _runs(folded: str) -> Iterator[tuple[str, bool]]:
    """Pieces of a text; with each, whether it is a spelt word, which may have endings."""
    for word, unspaced in _RUNS.findall(folded):
        if word:
            yield word, True
        else:
            yield from ((pair, False) for part in _PARTICLES.split(unspaced) for pair in _pairs(part))


def _pairs(run: str) -> list[str]:
    return [run] if len(run) == 1 else [run[at : at + 2] for at in range(len(run) - 1)]


def fold(text: str) -> str:
    """A text in one form: NFKC, lower case, without accents."""
    if text.isascii():
        return _CONTRACTED.sub("", text.lower()) if "'" in text else text.lower()
    text = unicodedata.normalize("NFKC", text).lower().translate(_SPECIAL)
    return _CONTRACTED.sub("", _MARKS.sub("", _ACCENTED.sub(_take_apart, text)))


def _take_apart(match: re.Match[str]) -> str:
    return unicodedata.normalize("NFD", match[0])


@lru_cache(maxsize=8192)
def root(word: str) -> str:
    """A word without its commonest endings: English ones, most plurals, and the last vowel of Russian cases."""
    if len(word) < 4 or not word.isalpha():
        return word[:LONGEST]
    if word > "\u0400":
        return re.sub("(?<=...)[аеиоуыэюяйьі]{1,2}$", "", word)
    if word.endswith("ies"):
        word = word[:-3] + "y"
    elif word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    for ending in ("ing", "ed"):
        if word.endswith(ending) and len(word) >= len(ending) + 3:
            word = _single(word[: -len(ending)])
            break
    if len(word) > 3 and word[-1] in "ey":
        word = word[:-1] + ("i" if word[-1] == "y" else "")
    return word


def _single(word: str) -> str:
    """ "runn" from "running" is "run"; "fall" from "falling" stays."""
    return word[:-1] if word[-1] == word[-2] and word[-1] not in "lsz" else word


STOP = frozenset(_STOP.split()) | frozenset(_STOP_PAIRS.split())

_ALPHABETS = ("abcdefghijklmnopqrstuvwxyz", "абвгдежзийклмнопрстуфхцчшщъыьэюя", "αβγδεζηθικλμνξοπρστυφχψως")


def near(word: str) -> Iterator[str]:
    """What `cut` makes of the words that one slip of the finger parts from this one; the likelier slips first.

    Two letters swapped, one too much, too few, or wrong: Peter Norvig, "How to Write a Spelling Corrector".
    """
    return iter(dict.fromkeys(root(slip) for slip in _slips(word[:LONGEST])))


def _slips(word: str) -> Iterator[str]:
    letters = next((alphabet for alphabet in _ALPHABETS if word[0] in alphabet), "")
    parts = [(word[:at], word[at:]) for at in range(len(word) + 1)]
    yield from (a + b[1] + b[0] + b[2:] for a, b in parts if len(b) > 1 and b[0] != b[1])
    yield from (a + b[1:] for a, b in parts if b)
    yield from (a + letter + b for a, b in parts for letter in letters)
    yield from (a + letter + b[1:] for a, b in parts if b for letter in letters if letter != b[0])
