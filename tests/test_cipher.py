"""What is sealed opens with its key only, and the key of a folder is neither lost nor mistaken."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import sqlite3
import stat
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import keyring
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keyring.backend import KeyringBackend
from keyring.backends.fail import Keyring
from keyring.errors import KeyringLocked

from roost import cipher as cipher_module
from roost.cipher import COPY, COST, FILE, SEALED_ID, Cipher, begin, change, is_begun
from roost.errors import ConfigError, StoreError
from roost.secret import Secret, find_key, new_key

CIPHER = Cipher(bytes(range(32)))
OTHER = Cipher(bytes(32))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    """A key in the environment, and scrypt so cheap that tests are quick."""
    monkeypatch.setattr(cipher_module, "COST", (16, 8, 1))
    value = new_key()
    monkeypatch.setenv("ROOST_KEY", value)
    return value


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Sealing.


@given(st.binary(), st.binary())
def test_what_is_sealed_opens_again_and_shows_nothing(data: bytes, about: bytes):
    sealed = CIPHER.seal(data, about)
    assert CIPHER.open(sealed, about) == data
    assert len(sealed) == len(data) + 32
    assert len(data) < 4 or data not in sealed
    assert CIPHER.seal(data, about) != sealed


@given(st.binary(), st.binary(), st.binary())
def test_nothing_opens_with_another_key_or_as_something_else(data: bytes, about: bytes, other: bytes):
    sealed = CIPHER.seal(data, about)
    with pytest.raises(StoreError, match="another key"):
        OTHER.open(sealed, about)
    if about != other:
        with pytest.raises(StoreError):
            CIPHER.open(sealed, other)


@pytest.mark.parametrize("data", [b"", b"a secret of more than one block of the cipher"])
def test_one_changed_bit_anywhere_or_a_missing_end_is_noticed(data: bytes):
    sealed = CIPHER.seal(data, b"about")
    for place in range(len(sealed)):
        for bit in range(8):
            with pytest.raises(StoreError):
                CIPHER.open(sealed[:place] + bytes([sealed[place] ^ 1 << bit]) + sealed[place + 1 :], b"about")
        with pytest.raises(StoreError):
            CIPHER.open(sealed[:place], b"about")
        with pytest.raises(StoreError):
            CIPHER.open(sealed[place + 1 :], b"about")
    with pytest.raises(StoreError):
        CIPHER.open(sealed + b"\0", b"about")


def test_what_an_earlier_version_sealed_still_opens():
    sealed = "eba4f7bafa04a26856919fdfb6b792ba816353977d5a59be2a8983011cba2f29f2e52a0c204d18e728"
    word = "1ec6d9d01bd0e113cb13bd867ea2b60b93e5220b21c3baa1"
    assert CIPHER.open(bytes.fromhex(sealed), b"turn") == b"a chicken"
    assert CIPHER.unblind(word) == "hühner" and CIPHER.blind("hühner") == word


words = st.text(st.characters(codec=None), max_size=40)


@given(words)
def test_a_blinded_word_is_plain_ascii_and_comes_back(word: str):
    blind = CIPHER.blind(word)
    assert set(blind) <= set("0123456789abcdef")
    assert CIPHER.unblind(blind) == word
    assert CIPHER.blind(word) == blind != OTHER.blind(word)


@given(words, words)
def test_two_words_never_share_a_stand_in(one: str, other: str):
    assert (CIPHER.blind(one) == CIPHER.blind(other)) == (one == other)


def test_short_words_are_equally_long_when_blinded():
    assert len({len(CIPHER.blind(word)) for word in ("", "a", "cat", "chicken")}) == 1


@given(st.text("0123456789abcdefxyz ", max_size=60))
def test_a_stand_in_of_somebody_else_is_refused(word: str):
    for wrong in (word, OTHER.blind(word), CIPHER.blind(word)[:-2]):
        with pytest.raises(StoreError, match="index"):
            CIPHER.unblind(wrong)


def test_many_threads_may_share_one_cipher():
    def work(number: int) -> bool:
        data = [f"{number} {n}".encode() * 9 for n in range(300)]
        return [CIPHER.open(CIPHER.seal(one)) for one in data] == data and CIPHER.unblind(CIPHER.blind("x")) == "x"

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(8)))


def test_the_library_is_imported_only_when_something_is_sealed():
    code = "import sys, roost.cipher, roost.secret; print({'cryptography', 'keyring'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_without_the_library_a_sentence_says_what_to_install(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(ConfigError, match=r'pip install -e "\.\[encryption\]"'):
        begin(home, "env:ROOST_KEY")
    assert not is_begun(home)


# The owner's key.

RAW = bytes(range(100, 132))


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(RAW).decode(),
        base64.b64encode(RAW).decode().rstrip("="),
        base64.urlsafe_b64encode(RAW).decode() + "\n",
        RAW.hex(),
        f"  {RAW.hex().upper()}\r\n",
    ],
)
def test_a_key_may_be_written_in_several_ways(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MY_KEY", text)
    (tmp_path / "key").write_bytes(text.encode())
    assert find_key("env:MY_KEY") == find_key(f"file:{tmp_path / 'key'}") == Secret(RAW)


def test_a_key_file_may_hold_the_bytes_themselves(tmp_path: Path):
    (tmp_path / "key").write_bytes(b"\xff" + RAW[1:])
    assert find_key(f"file:{tmp_path / 'key'}") == Secret(b"\xff" + RAW[1:])
    (tmp_path / "key").write_bytes(b"\xff" + RAW)
    with pytest.raises(ConfigError, match="no encryption key"):
        find_key(f"file:{tmp_path / 'key'}")


@pytest.mark.parametrize("text", ["correct horse battery", "z" * 64, "ö" * 43, "a" * 42])
def test_anything_else_is_a_passphrase(text: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MY_KEY", text)
    assert find_key("env:MY_KEY") == Secret(text.encode(), passphrase=True)


def test_a_passphrase_is_the_same_on_every_keyboard(monkeypatch: pytest.MonkeyPatch):
    found = []
    for form in ("NFC", "NFD"):
        monkeypatch.setenv("MY_KEY", unicodedata.normalize(form, "grüße über köln"))
        found.append(find_key("env:MY_KEY"))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("env:NO_SUCH_KEY", "NO_SUCH_KEY is not set. Make it 32 random bytes"),
        ("env:SHORT", "has 11 characters; it needs 12 at least"),
        ("env:EMPTY", "EMPTY is not set"),
        ("file:/no/such/key", "'/no/such/key' cannot be read: No such file"),
        ("file:key", "has to begin at the root"),
        ("vault:roost", "'vault:roost' does not say where"),
        ("env:", "'env:' does not say where"),
        ("ROOST_KEY", "env:NAME, file:PATH or keyring:SERVICE"),
        ("", "does not say where"),
    ],
)
def test_a_key_that_cannot_be_had_gets_a_sentence(source: str, sentence: str, home: Path, monkeypatch):
    monkeypatch.setenv("SHORT", "hunter2hunt")
    monkeypatch.setenv("EMPTY", " \n")
    with pytest.raises(ConfigError, match=sentence) as caught:
        begin(home, source)
    assert "hunter2" not in str(caught.value)
    assert not home.exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such bits")
def test_a_key_file_that_others_can_read_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "key"
    path.write_text(RAW.hex())
    path.chmod(0o600)
    find_key(f"file:{path}")
    assert not caplog.records
    path.chmod(0o640)
    find_key(f"file:{path}")
    assert f"chmod 600 '{path}'" in caplog.text and RAW.hex() not in caplog.text


def test_a_key_file_inside_the_folder_is_warned_about(home: Path, caplog: pytest.LogCaptureFixture):
    home.mkdir()
    (home / "key").write_text(RAW.hex())
    (home / "key").chmod(0o600)
    begin(home, f"file:{home / 'key'}")
    assert "protects nothing" in caplog.text


class Drawer(KeyringBackend):
    """A keyring in memory."""

    priority: ClassVar[float] = 1
    held: ClassVar[dict[tuple[str, str], str]] = {}
    locked: ClassVar[bool] = False

    def get_password(self, service, username):
        if self.locked:
            raise KeyringLocked("Failed to unlock the collection!")
        return self.held.get((service, username))

    def set_password(self, service, username, password):
        self.held[service, username] = password


@pytest.fixture
def use() -> Iterator[Callable[[KeyringBackend], None]]:
    before = keyring.get_keyring()
    yield keyring.set_keyring
    keyring.set_keyring(before)


def test_a_key_may_lie_in_the_keyring(use, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Drawer, "held", {})
    use(Drawer())
    with pytest.raises(ConfigError, match="Say: keyring set roost key"):
        find_key("keyring:roost")
    keyring.set_password("roost", "key", RAW.hex())
    assert find_key("keyring:roost") == Secret(RAW)
    monkeypatch.setattr(Drawer, "locked", True)
    with pytest.raises(ConfigError, match="Failed to unlock the collection"):
        find_key("keyring:roost")


def test_a_machine_without_a_keyring_gets_a_sentence(use, monkeypatch: pytest.MonkeyPatch):
    use(Keyring())
    with pytest.raises(ConfigError, match=r"does not give .* keep the key elsewhere"):
        find_key("keyring:roost")
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(ConfigError, match="needs the package 'keyring'"):
        find_key("keyring:roost")


# The folder's key.


def test_the_same_key_opens_the_folder_again(home: Path):
    assert not is_begun(home)
    sealed = begin(home, "env:ROOST_KEY").seal(b"secret")
    assert is_begun(home)
    before = content(home)
    assert begin(home, "env:ROOST_KEY").open(sealed) == b"secret"
    assert content(home) == before


def test_nobody_else_can_read_the_file_and_no_key_is_in_it(home: Path, key: str):
    begin(home, "env:ROOST_KEY")
    assert sorted(content(home)) == [FILE, COPY]
    for name, data in content(home).items():
        assert key.encode() not in data and base64.b64decode(key) not in data
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600 or os.name == "nt"


def test_two_folders_with_one_key_have_nothing_in_common(tmp_path: Path):
    one, other = (begin(tmp_path / name, "env:ROOST_KEY") for name in "ab")
    assert one.blind("word") != other.blind("word")
    with pytest.raises(StoreError):
        other.open(one.seal(b"secret"))
    salts = [json.loads((tmp_path / name / FILE).read_bytes())["salt"] for name in "ab"]
    assert salts[0] != salts[1] and all(len(base64.b64decode(salt)) == 32 for salt in salts)


@pytest.mark.parametrize("right", ["key", "passphrase"])
@pytest.mark.parametrize("wrong", ["key", "passphrase"])
def test_a_wrong_key_is_noticed_at_once_and_nothing_is_written(home: Path, monkeypatch, right: str, wrong: str):
    kinds = {"key": new_key, "passphrase": lambda: f"correct horse {new_key()}"}
    monkeypatch.setenv("ROOST_KEY", kinds[right]())
    begin(home, "env:ROOST_KEY")
    before = content(home)
    monkeypatch.setenv("ROOST_KEY", value := kinds[wrong]())
    with pytest.raises(StoreError, match=r"key from env:ROOST_KEY is not the one .* Nothing was changed") as caught:
        begin(home, "env:ROOST_KEY")
    assert value not in str(caught.value)
    assert content(home) == before


def test_a_passphrase_opens_the_folder_also_when_it_has_become_cheaper_to_try(home: Path, monkeypatch):
    monkeypatch.setenv("ROOST_KEY", "correct horse battery staple")
    sealed = begin(home, "env:ROOST_KEY").seal(b"secret")
    monkeypatch.setattr(cipher_module, "COST", (1024, 8, 1))
    assert begin(home, "env:ROOST_KEY").open(sealed) == b"secret"


def test_a_passphrase_costs_who_guesses_it_64_mebibytes():
    n, r, p = COST
    assert (128 * n * r, p) == (64 * 1024 * 1024, 2)


def spoilt(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", [FILE, COPY])
@pytest.mark.parametrize("spoil", [spoilt, Path.unlink, lambda path: path.write_bytes(b"")])
def test_one_of_the_two_files_is_enough(home: Path, name: str, spoil, caplog: pytest.LogCaptureFixture):
    sealed = begin(home, "env:ROOST_KEY").seal(b"secret")
    before = content(home)
    spoil(home / name)
    assert begin(home, "env:ROOST_KEY").open(sealed) == b"secret"
    assert content(home) == before and "made again" in caplog.text


def test_every_changed_byte_of_the_file_is_noticed(home: Path):
    begin(home, "env:ROOST_KEY")
    data = (home / FILE).read_bytes()
    (home / COPY).unlink()
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        (home / FILE).write_bytes(changed)
        try:
            begin(home, "env:ROOST_KEY")
        except StoreError:
            assert content(home) == {FILE: changed}
        else:  # white space of the JSON
            (home / COPY).unlink()


def test_when_both_files_are_damaged_a_sentence_says_so(home: Path):
    begin(home, "env:ROOST_KEY")
    spoilt(home / FILE)
    spoilt(home / COPY)
    before = content(home)
    with pytest.raises(StoreError, match=r"and its copy are damaged\. Put one back from a backup"):
        begin(home, "env:ROOST_KEY")
    assert content(home) == before


def test_no_new_key_is_made_where_something_sealed_waits_for_the_old_one(home: Path):
    (home / "memory").mkdir(parents=True)
    (home / "memory" / "turns.jsonl").write_bytes(b'12345678 ["roost sealed",2]\n')
    with pytest.raises(StoreError, match=r"turns.jsonl' is encrypted, but .*cipher.json' is gone"):
        begin(home, "env:ROOST_KEY")
    assert not is_begun(home)


@pytest.mark.parametrize("sealed", [True, False])
def test_a_sealed_database_is_told_from_a_clear_one(home: Path, sealed: bool):
    home.mkdir()
    db = sqlite3.connect(home / "journal.db")
    db.execute("CREATE TABLE t (x)")
    if sealed:
        db.execute(f"PRAGMA application_id = {SEALED_ID}")
    db.commit()
    db.close()
    if sealed:
        with pytest.raises(StoreError, match=r"journal\.db' is encrypted"):
            begin(home, "env:ROOST_KEY")
    assert is_begun(home) is False
    if not sealed:
        begin(home, "env:ROOST_KEY")


def test_a_file_from_a_newer_version_is_refused_and_left_alone(home: Path):
    begin(home, "env:ROOST_KEY")
    (home / FILE).write_bytes((home / FILE).read_bytes().replace(b'"format": 1', b'"format": 2'))
    before = content(home)
    with pytest.raises(StoreError, match="newer Roost"):
        begin(home, "env:ROOST_KEY")
    assert content(home) == before


def test_the_key_can_be_changed_and_the_data_stay(home: Path, monkeypatch: pytest.MonkeyPatch):
    sealed = begin(home, "env:ROOST_KEY").seal(b"secret")
    monkeypatch.setenv("NEW_KEY", "a longer passphrase")
    change(home, "env:ROOST_KEY", "env:NEW_KEY")
    assert begin(home, "env:NEW_KEY").open(sealed) == b"secret"
    for again in (begin, lambda home, source: change(home, source, "env:NEW_KEY")):
        with pytest.raises(StoreError, match="is not the one"):
            again(home, "env:ROOST_KEY")
    with pytest.raises(StoreError, match="is not encrypted"):
        change(home / "elsewhere", "env:ROOST_KEY", "env:NEW_KEY")


class Killed(BaseException):
    pass


@pytest.mark.parametrize("act", ["begin", "change"])
@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("at", range(1, 5))
def test_killed_while_it_writes_a_key_the_folder_opens_with_one_of_them(
    home: Path, monkeypatch: pytest.MonkeyPatch, act: str, step: str, at: int
):
    monkeypatch.setenv("NEW_KEY", "a longer passphrase")
    sealed = begin(home, "env:ROOST_KEY").seal(b"secret") if act == "change" else None
    steps = 0

    def die(real):
        def counted(*arguments):
            nonlocal steps
            steps += 1
            if steps == at:
                raise Killed
            return real(*arguments)

        return counted

    with monkeypatch.context() as patch:
        owner = os if step == "fsync" else Path
        patch.setattr(owner, step, die(getattr(owner, step)))
        with contextlib.suppress(Killed):
            change(home, "env:ROOST_KEY", "env:NEW_KEY") if act == "change" else begin(home, "env:ROOST_KEY")
    opened = []
    for source in ("env:ROOST_KEY", "env:NEW_KEY") if act == "change" else ("env:ROOST_KEY",):
        try:
            opened.append(begin(home, source))
        except StoreError:
            continue
        break
    assert len(opened) == 1
    assert sealed is None or opened[0].open(sealed) == b"secret"
    assert sorted(content(home)) == [FILE, COPY]


def test_the_files_of_two_folders_are_never_mixed_up(tmp_path: Path):
    sealed = begin(tmp_path / "a", "env:ROOST_KEY").seal(b"secret")
    begin(tmp_path / "b", "env:ROOST_KEY")
    (tmp_path / "a" / FILE).write_bytes((tmp_path / "b" / FILE).read_bytes())
    before = content(tmp_path)
    with pytest.raises(StoreError, match="belong to two different folders"):
        begin(tmp_path / "a", "env:ROOST_KEY")
    assert content(tmp_path) == before
    (tmp_path / "a" / FILE).unlink()
    assert begin(tmp_path / "a", "env:ROOST_KEY").open(sealed) == b"secret"


def test_neither_key_is_ever_shown(home: Path, key: str, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    cipher = begin(home, "env:ROOST_KEY")
    secret = find_key("env:ROOST_KEY")
    shown = f"{cipher!r} {secret!r} {caplog.text}"
    assert key not in shown and repr(secret.value) not in shown


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=400))
def test_whatever_the_file_holds_it_is_a_sentence(tmp_path_factory, data: bytes):
    home = tmp_path_factory.mktemp("home")
    (home / FILE).write_bytes(data)
    with pytest.raises(StoreError, match="damaged"):
        begin(home, "env:ROOST_KEY")
    assert content(home) == {FILE: data}
