"""https by files: what is wrong with them is said, what is right is used, and used anew when they change."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from certificates import NAME, certificate, keys
from click.testing import CliRunner
from face import FORM, OPEN, PAGE, PUBLIC, SOCKET, TOKEN, connect, leave, serving, status

from roost.cli import main
from roost.errors import ConfigError
from roost.settings import WebTable
from roost.web import Web
from roost.web_tls import DAY, Certificate, certificate_doubts, load


def trusting(folder: Path) -> ssl.SSLContext:
    """What a client that knows the certificate connects with."""
    return ssl.create_default_context(cafile=folder / "cert.pem")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    certificate(tmp_path)
    return tmp_path


async def presented(face: Web) -> bytes:
    """The certificate that a new connection gets, as DER."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await connect(face, ssl=context)
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(True)
    await leave(writer)
    return found


# ------------------------------------------------------------------------------------------ https


async def test_pages_forms_and_websockets_come_over_https_and_sessions_are_secure(folder: Path) -> None:
    async with (
        serving(PAGE, FORM, SOCKET, token=TOKEN, **keys(folder)) as face,
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=trusting(folder)), cookie_jar=aiohttp.CookieJar(unsafe=True)
        ) as session,
    ):
        assert face.address.startswith("https://127.0.0.1:")
        headers = {"Origin": face.address}
        async with session.post(
            f"{face.address}/login", data={"token": TOKEN}, headers=headers, allow_redirects=False
        ) as answer:
            assert answer.status == 303 and "Secure" in answer.headers["Set-Cookie"]
            assert "ws://" not in answer.headers["Content-Security-Policy"].replace("wss://", "")
        assert await status(session, face, "POST", "/form", headers=headers, data=b"x" * 300_000) == 200
        await (await session.ws_connect(f"{face.address}/ws", headers=headers)).close()
        insecure = {"Origin": face.address.replace("https:", "http:")}
        assert await status(session, face, "POST", "/form", headers=insecure) == 403


async def test_browsers_are_told_to_stay_with_https_under_the_public_name_alone(folder: Path) -> None:
    async with (
        serving(OPEN, public_url=PUBLIC, **keys(folder)) as face,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting(folder))) as session,
    ):
        for host, expected in ((NAME, True), ("localhost", False)):
            async with session.get(f"{face.address}/open", headers={"Host": host}) as answer:
                assert ("Strict-Transport-Security" in answer.headers) is expected


async def test_what_is_no_tls_and_what_is_too_old_gets_nothing_and_holds_nothing_up(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(OPEN, **keys(folder)) as face:
        reader, writer = await connect(face)
        writer.write(b"GET /open HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP" not in await asyncio.wait_for(reader.read(), 15)
        await leave(writer)
        old = trusting(folder)
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(OSError):
            await connect(face, ssl=old, server_hostname=NAME)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting(folder))) as session:
            assert await status(session, face, "GET", "/open") == 200
        assert face._connections is not None
        while len(face._connections) > 1:
            await asyncio.sleep(0)
    assert caplog.records == []


def test_tls_before_1_2_is_not_offered(folder: Path) -> None:
    assert load(WebTable(**keys(folder))).minimum_version == ssl.TLSVersion.TLSv1_2


async def test_stopping_does_not_wait_for_a_handshake_that_never_comes(folder: Path) -> None:
    async with serving(OPEN, **keys(folder)) as face:
        reader, writer = await connect(face)
        assert face._connections is not None
        while not len(face._connections):
            await asyncio.sleep(0)
        async with asyncio.timeout(15):
            await face.stop()
            assert await reader.read() == b""
        await leave(writer)


# ------------------------------------------------------------------------------------------ renewal


async def test_a_renewed_certificate_is_used_without_a_restart(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(OPEN, **keys(folder)) as face:
        before = await presented(face)
        assert await presented(face) == before
        certificate(folder)
        after = await presented(face)
        assert after != before
        assert ssl.PEM_cert_to_DER_cert((folder / "cert.pem").read_text()) == after


async def test_a_renewal_that_is_half_done_or_broken_leaves_the_old_certificate_in_use(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(OPEN, **keys(folder)) as face:
        before = await presented(face)
        fresh = tmp_path / "fresh"
        certificate(fresh)
        (fresh / "cert.pem").replace(folder / "cert.pem")
        assert await presented(face) == before
        assert await presented(face) == before
        assert [one.levelname for one in caplog.records] == ["WARNING"], "it is said once"
        assert "goes on with the certificate it has" in caplog.text
        (fresh / "key.pem").replace(folder / "key.pem")
        assert await presented(face) != before
        (folder / "cert.pem").unlink()
        await presented(face)


def test_a_certificate_behind_a_link_is_renewed_by_changing_the_link(tmp_path: Path) -> None:
    for name in ("one", "two"):
        certificate(tmp_path / name)
    live = tmp_path / "live"
    try:
        live.symlink_to(tmp_path / "one")
    except OSError:
        pytest.skip("this system has no links")
    used = Certificate(WebTable(**keys(live)))
    before = used.context()
    assert used.context() is before
    live.unlink()
    live.symlink_to(tmp_path / "two")
    assert used.context() is not before


# ------------------------------------------------------------------------------------------ files that are wrong


def missing(folder: Path) -> None:
    (folder / "cert.pem").unlink()


def missing_key(folder: Path) -> None:
    (folder / "key.pem").unlink()


def folder_instead(folder: Path) -> None:
    missing(folder)
    (folder / "cert.pem").mkdir()


def swapped(folder: Path) -> None:
    one, other = (folder / "cert.pem").read_bytes(), (folder / "key.pem").read_bytes()
    (folder / "cert.pem").write_bytes(other)
    (folder / "key.pem").write_bytes(one)


def other_key(folder: Path) -> None:
    certificate(folder / "other")
    (folder / "other" / "key.pem").replace(folder / "key.pem")


def locked(folder: Path) -> None:
    certificate(folder, password="hunter2")


def damaged(folder: Path) -> None:
    lines = (folder / "cert.pem").read_text().splitlines()
    (folder / "cert.pem").write_text("\n".join([lines[0], "AAAA" + lines[1][4:], *lines[2:]]))


def der(folder: Path) -> None:
    (folder / "cert.pem").write_bytes(ssl.PEM_cert_to_DER_cert((folder / "cert.pem").read_text()))


def empty(folder: Path) -> None:
    (folder / "key.pem").write_bytes(b"")


WRONG: list[tuple[Callable[[Path], None], str]] = [
    (missing, r"certificate = '.*cert.pem' cannot be read: No such file"),
    (missing_key, r"certificate_key = '.*key.pem' cannot be read: No such file"),
    (folder_instead, r"certificate = '.*cert.pem' is no file"),
    (swapped, r"certificate = '.*' has no 'CERTIFICATE' in PEM form in it. It has to be the certificate"),
    (other_key, r"certificate_key = '.*' is the key of another certificate than '.*cert.pem'"),
    (locked, r"certificate_key = '.*' is encrypted with a password. Write it without one, with 'openssl pkey"),
    (damaged, r"cannot be used: .*One of the two files is damaged"),
    (der, r"has no 'CERTIFICATE' in PEM form"),
    (empty, r"certificate_key = '.*' has no 'PRIVATE KEY' in PEM form"),
]


@pytest.mark.parametrize(("spoil", "sentence"), WRONG, ids=[spoil.__name__ for spoil, _ in WRONG])
async def test_a_wrong_file_is_one_sentence_at_the_start_and_in_doctor(
    spoil: Callable[[Path], None], sentence: str, folder: Path
) -> None:
    spoil(folder)
    table = WebTable(port=0, **keys(folder))
    with pytest.raises(ConfigError, match=sentence) as error:
        await asyncio.wait_for(Web(table).start(), 15)
    assert "hunter2" not in str(error.value)
    (doubt,) = certificate_doubts(table)
    assert (doubt.wrong, doubt.text) == (True, str(error.value))


def test_a_path_that_depends_on_where_the_bot_was_started_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"certificate = 'cert.pem' has to begin at the root or with '~'"):
        load(WebTable(certificate="cert.pem"))


def test_a_certificate_and_its_key_may_be_in_one_file(folder: Path) -> None:
    both = folder / "both.pem"
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    both.chmod(0o600)
    table = WebTable(certificate=str(both))
    load(table)
    assert list(certificate_doubts(table)) == []


# ------------------------------------------------------------------------------------------ doctor


@pytest.mark.parametrize(
    ("begin", "end", "wrong", "sentence"),
    [
        (-90, -0.1, True, "is over since"),
        (1, 90, True, "is not valid yet"),
        (-85, 5, False, "in 4 days. See that it is renewed."),
        (-3600, 29, False, "in 28 days"),
    ],
)
def test_a_certificate_that_is_over_or_soon_will_be_is_named(
    begin: float, end: float, wrong: bool, sentence: str, tmp_path: Path
) -> None:
    certificate(tmp_path, begin, end)
    (doubt,) = certificate_doubts(WebTable(**keys(tmp_path)), time.time())
    assert doubt.wrong is wrong and sentence in doubt.text
    Certificate(WebTable(**keys(tmp_path)))


@pytest.mark.parametrize(("begin", "end"), [(-60, 30), (-4, 2), (-3600, 31)])
def test_a_certificate_that_is_renewed_in_time_is_not_complained_of(begin: float, end: float, tmp_path: Path) -> None:
    certificate(tmp_path, begin, end)
    assert list(certificate_doubts(WebTable(public_url=PUBLIC, **keys(tmp_path)))) == []
    assert DAY == 86400


def test_a_certificate_for_another_name_is_named(folder: Path) -> None:
    (doubt,) = certificate_doubts(WebTable(public_url="https://other.example", **keys(folder)))
    assert not doubt.wrong and "is not for 'other.example' of public_url" in doubt.text


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such bits")
def test_a_key_that_others_can_read_is_named(folder: Path) -> None:
    (folder / "key.pem").chmod(0o640)
    (doubt,) = certificate_doubts(WebTable(**keys(folder)))
    assert doubt.wrong and f"chmod 600 '{folder / 'key.pem'}'" in doubt.text


def test_the_start_says_what_doctor_says_of_a_certificate_that_is_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate(tmp_path, -90, -1)
    with caplog.at_level(logging.WARNING):
        Certificate(WebTable(**keys(tmp_path)))
    assert "is over since" in caplog.text


def test_doctor_says_it_with_and_without_security(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate(folder, -90, -1)
    path = tmp_path / "bot.toml"
    named = "\n".join(f"{name} = {value!r}" for name, value in keys(folder).items())
    path.write_text(f'[brain]\nuse = "echo"\n[web]\ntoken = "a-token-of-more-than-that"\n{named}\n')
    monkeypatch.setenv("ROOST_HOME", str(tmp_path / "home"))
    for more in ([], ["--security"]):
        said = CliRunner().invoke(main, ["doctor", "--config", str(path), *more])
        assert said.exit_code == 1 and "is over since" in said.output, said.output
