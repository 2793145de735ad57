"""The server is what Twilio's documentation says: by plain requests, and by Twilio's own client as a second opinion."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from twilio.base.exceptions import TwilioRestException  # type: ignore[import-untyped]
from twilio.http.http_client import TwilioHttpClient  # type: ignore[import-untyped]
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]
from twilio.rest import Client  # type: ignore[import-untyped]

from servers.sms import ROOT, TwilioServer, sign

ANN, BOT = "+14155550100", "+15005550006"
GOOD = {"To": ANN, "From": BOT, "Body": "hello"}


@pytest.fixture
async def server() -> AsyncIterator[TwilioServer]:
    async with TwilioServer() as one:
        yield one


class Redirected(TwilioHttpClient):  # type: ignore[misc]
    """Twilio's own carrier, led to another address."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def request(self, method: str, url: str, *rest: Any, **more: Any) -> Any:
        return super().request(method, url.replace("https://api.twilio.com", self._url), *rest, **more)


def client(server: TwilioServer, token: str = "") -> Any:
    return Client(server.account, token or server.token, http_client=Redirected(server.url))


async def ask(server: TwilioServer, fields: Any, token: str = "", account: str = "") -> tuple[int, dict[str, Any]]:
    shown = base64.b64encode(f"{server.account}:{token or server.token}".encode()).decode()
    async with aiohttp.ClientSession(headers={"Authorization": f"Basic {shown}"}) as session:
        url = f"{server.url}{ROOT}/{account or server.account}/Messages.json"
        async with session.post(url, data=fields) as answer:
            return answer.status, await answer.json()


async def test_twilios_own_client_sends_lists_and_reads_media(server: TwilioServer) -> None:
    twilio = client(server)
    made = await asyncio.to_thread(twilio.messages.create, to=ANN, from_=BOT, body="hello")
    assert (made.status, made.direction, made.num_segments) == ("queued", "outbound-api", "1")
    server.page_limit = 2
    for number in range(5):
        await server.receive(ANN, BOT, f"n{number}", [("image/png", b"x")])
    since = datetime.now(UTC) - timedelta(minutes=1)
    listed = await asyncio.to_thread(twilio.messages.list, to=BOT, date_sent_after=since)
    assert [one.body for one in listed] == ["n4", "n3", "n2", "n1", "n0"]
    media = await asyncio.to_thread(twilio.messages(listed[0].sid).media.list)
    assert [one.content_type for one in media] == ["image/png"]
    later = datetime.now(UTC) + timedelta(minutes=1)
    assert await asyncio.to_thread(twilio.messages.list, date_sent_after=later) == []


async def test_twilios_own_client_understands_the_errors(server: TwilioServer) -> None:
    with pytest.raises(TwilioRestException) as refused:
        await asyncio.to_thread(client(server, "wrong").messages.create, to=ANN, from_=BOT, body="x")
    assert (refused.value.status, refused.value.code) == (401, 20003)
    with pytest.raises(TwilioRestException) as refused:
        await asyncio.to_thread(client(server).messages.create, to="0612", from_=BOT, body="x")
    assert (refused.value.status, refused.value.code) == (400, 21211)


def test_its_signatures_are_those_of_twilios_own_validator() -> None:
    fields = [("From", ANN), ("Body", "né🦉"), ("Empty", ""), ("B", "2")]
    assert sign("12345", "https://a.b/c?d=e", fields) == RequestValidator("12345").compute_signature(
        "https://a.b/c?d=e", dict(fields)
    )


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"To": ""}, 21604),
        ({"To": "0612345678"}, 21211),
        ({"To": "+15005550009"}, 21614),
        ({"To": BOT}, 21266),
        ({"To": f"whatsapp:{ANN}"}, 21910),
        ({"From": ""}, 21603),
        ({"From": "+15005550001"}, 21606),
        ({"From": "whatsapp:+15005550001"}, 63007),
        ({"MessagingServiceSid": "MG" + "0" * 32}, 20404),
        ({"Body": ""}, 21602),
        ({"Body": "a" * 1601}, 21617),
        ({"Body": "🦉" * 801}, 21617),
        ({"MediaUrl": "ftp://a.b/c"}, 21620),
        ({"StatusCallback": "https://under_scored.org/x"}, 21609),
    ],
)
async def test_what_twilio_refuses_is_refused(server: TwilioServer, change: dict[str, str], code: int) -> None:
    status, said = await ask(server, GOOD | change)
    assert (said["code"], said["status"]) == (code, status)
    assert not server.texts


async def test_too_many_files_are_refused(server: TwilioServer) -> None:
    _, said = await ask(server, [*GOOD.items(), *[("MediaUrl", "https://a.b/c")] * 11])
    assert said["code"] == 21623


async def test_what_is_no_form_and_whose_account_it_is_not(server: TwilioServer) -> None:
    assert (await ask(server, b"{}"))[0] == 400
    assert (await ask(server, GOOD, account="AC" + "0" * 32))[0] == 404
    await ask(server, GOOD | {"Idempotency": "1"})
    assert "Idempotency" in server.complaints[0]


async def test_stop_closes_a_number_for_a_person_and_start_opens_it(server: TwilioServer) -> None:
    await server.receive(ANN, BOT, " stop ")
    assert (await ask(server, GOOD))[1]["code"] == 21610
    assert (await ask(server, GOOD | {"To": "+14155550101"}))[0] == 201
    await server.receive(ANN, BOT, "START")
    assert (await ask(server, GOOD))[0] == 201


async def test_a_file_that_cannot_be_fetched_fails_the_message(server: TwilioServer) -> None:
    _, made = await ask(server, GOOD | {"MediaUrl": f"{server.url}/cdn/nothing"})
    async with asyncio.timeout(20):
        while (await asyncio.to_thread(client(server).messages(made["sid"]).fetch)).status != "failed":
            await asyncio.sleep(0.01)
    assert server.texts[0].error == 11200
