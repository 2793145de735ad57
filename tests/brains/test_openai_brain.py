from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from servers.openai import KEY, Exchange, OpenAIServer, answer, fail

from roost.brains.client import Client, retry_after
from roost.brains.openai import OpenAI, read_address
from roost.contracts import Prompt, Turn
from roost.errors import BrainError

HELLO = Prompt((Turn("system", "Be brief."), Turn("user", "good morning 🦉 to you")), "test:1")


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer() as one:
        yield one


@pytest.fixture
async def brain(server: OpenAIServer) -> AsyncIterator[OpenAI]:
    one = await made(server.url)
    yield one
    await one.unload()


async def made(url: str, **keys: Any) -> OpenAI:
    config = OpenAI.Config(**{"use": "openai", "model": "gpt-test", "base_url": url, "api_key": KEY, **keys})
    brain = OpenAI(config, Path("nowhere"))
    await brain.load()
    brain.client.pause = 0.0
    return brain


async def said(brain: OpenAI, prompt: Prompt = HELLO) -> str:
    return "".join([piece async for piece in brain.think(prompt)])


async def complaint(brain: OpenAI, prompt: Prompt = HELLO) -> str:
    with pytest.raises(BrainError) as caught:
        await said(brain, prompt)
    return str(caught.value)


async def test_an_answer_arrives_in_pieces(server: OpenAIServer, brain: OpenAI) -> None:
    assert [piece async for piece in brain.think(HELLO)] == ["good", " morning", " 🦉", " to", " you"]
    assert server.asked[0] == {
        "model": "gpt-test",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "good morning 🦉 to you"}],
        "max_tokens": 512,
        "temperature": 0.2,
        "stream": True,
    }


async def test_a_refused_key_says_which_key_to_set(server: OpenAIServer) -> None:
    brain = await made(server.url, api_key="wrong")
    text = await complaint(brain)
    assert "refuses the api_key" in text and "[brain]" in text and "wrong" not in text
    await brain.unload()


async def test_a_model_that_is_not_there_is_named(server: OpenAIServer) -> None:
    brain = await made(server.url, model="gpt-none")
    assert "has no model 'gpt-none'" in await complaint(brain)
    await brain.unload()


async def test_a_prompt_that_is_too_long_is_said_to_be(brain: OpenAI) -> None:
    assert "too long for the model" in await complaint(brain, Prompt((Turn("user", "word " * 3000),)))


async def test_a_wrong_address_says_to_check_it(server: OpenAIServer) -> None:
    brain = await made(server.url + "/nowhere")
    assert "base_url" in await complaint(brain)
    await brain.unload()


async def test_being_asked_to_wait_is_honoured_and_then_it_answers(server: OpenAIServer, brain: OpenAI) -> None:
    server.plan += [fail(429, "Rate limit reached.", "rate_limit_exceeded", Retry_After="0"), answer("here")]
    brain.client.pause = 1e6  # only the server's own word can make it go on
    assert await said(brain) == "here"
    assert len(server.asked) == 2


async def test_a_wait_longer_than_the_answer_may_take_is_not_waited_for(server: OpenAIServer, brain: OpenAI) -> None:
    server.plan += [fail(429, "Rate limit reached.", Retry_After="86400")]
    assert "Rate limit reached." in await complaint(brain)
    assert len(server.asked) == 1


async def test_a_quota_that_is_used_up_is_not_tried_again(server: OpenAIServer, brain: OpenAI) -> None:
    server.plan += [fail(429, "You exceeded your current quota.", "insufficient_quota")]
    assert "quota" in await complaint(brain)
    assert len(server.asked) == 1


async def test_a_server_that_fails_once_is_asked_again(server: OpenAIServer, brain: OpenAI) -> None:
    server.plan += [fail(500, "The server had an error."), fail(503, "Overloaded."), answer("now")]
    assert await said(brain) == "now"


async def test_a_server_that_keeps_failing_is_given_up(server: OpenAIServer, brain: OpenAI) -> None:
    server.plan += [fail(500, "The server had an error.")] * 10
    assert "status 500: The server had an error." in await complaint(brain)
    assert len(server.asked) == 4


async def test_an_answer_that_has_begun_is_never_asked_for_again(server: OpenAIServer, brain: OpenAI) -> None:
    async def break_off(exchange: Exchange) -> None:
        await exchange.say("half an")
        exchange.drop()

    server.plan += [break_off]
    pieces = []
    with pytest.raises(BrainError, match="broke in the middle"):
        async for piece in brain.think(HELLO):
            pieces.append(piece)  # noqa: PERF401
    assert pieces == ["half an"]
    assert len(server.asked) == 1


async def test_a_stream_that_just_ends_is_no_answer(server: OpenAIServer, brain: OpenAI) -> None:
    async def stop(exchange: Exchange) -> None:
        await exchange.say("half an")

    server.plan += [stop]
    assert "broke in the middle" in await complaint(brain)


async def test_a_web_page_in_place_of_an_answer_says_to_check_the_address(server: OpenAIServer, brain: OpenAI) -> None:
    async def page(exchange: Exchange) -> None:
        exchange.response.headers["Content-Type"] = "text/html; charset=utf-8"
        await exchange.raw(b"<html>Please log in</html>")

    server.plan += [page]
    assert "answered with a web page. Check `base_url`" in await complaint(brain)
    assert len(server.asked) == 1


async def test_an_event_without_an_end_is_said_to_be_in_one_sentence(server: OpenAIServer, brain: OpenAI) -> None:
    async def flood(exchange: Exchange) -> None:
        for _ in range(6):
            await exchange.raw(b"x" * (1 << 20))

    server.plan += [flood] * 9
    assert (await complaint(brain)).endswith("broke: An event has more than 4194304 bytes.")


async def test_silence_in_the_middle_is_noticed(server: OpenAIServer, brain: OpenAI) -> None:
    async def stall(exchange: Exchange) -> None:
        await exchange.say("half an")
        await asyncio.Event().wait()

    server.plan += [stall]
    brain.client.idle = 0.05
    assert "fell silent for 0.05 seconds" in await complaint(brain)
    await asyncio.wait_for(server.left.wait(), 30)


async def test_an_answer_has_only_so_much_time_altogether(server: OpenAIServer, brain: OpenAI) -> None:
    async def stall(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    server.plan += [stall]
    brain.client.total = 0.05
    assert "did not finish within 0.05 seconds" in await complaint(brain)


async def test_closing_the_iterator_ends_the_request(server: OpenAIServer, brain: OpenAI) -> None:
    async def go_on(exchange: Exchange) -> None:
        await exchange.say("one")
        await asyncio.Event().wait()

    server.plan += [go_on]
    pieces = brain.think(HELLO)
    assert await anext(pieces) == "one"
    await pieces.aclose()  # type: ignore[attr-defined]
    await asyncio.wait_for(server.left.wait(), 30)


async def test_noise_between_the_events_does_not_matter(server: OpenAIServer, brain: OpenAI) -> None:
    async def noisy(exchange: Exchange) -> None:
        await exchange.raw(b': keep-alive\r\n\r\ndata: not json\n\ndata: 17\n\ndata: {}\n\ndata: {"choices": null}\n\n')
        owl = 'data: {"choices": [{"delta": {"content": "🦉"}}]}\r\n\r\n'.encode()
        for byte in owl:
            await exchange.raw(bytes([byte]))
        await exchange.finish()

    server.plan += [noisy]
    assert await said(brain) == "🦉"


async def test_an_error_in_the_stream_is_an_error(server: OpenAIServer, brain: OpenAI) -> None:
    async def fail_late(exchange: Exchange) -> None:
        await exchange.say("half an")
        await exchange.event({"error": {"message": "The engine is overloaded", "type": "server_error"}})

    server.plan += [fail_late]
    assert "The engine is overloaded." in await complaint(brain)


async def test_thoughts_and_control_tokens_stay_out(server: OpenAIServer, brain: OpenAI) -> None:
    server.plan += [answer("<th", "ink>hm</thi", "nk>\n", "Yes", ".<|im_", "end|>")]
    assert await said(brain) == "Yes."


async def test_a_parameter_the_model_does_not_take_is_left_out_from_then_on(
    server: OpenAIServer, brain: OpenAI
) -> None:
    server.renamed = {"max_tokens", "temperature"}
    assert await said(brain) == "good morning 🦉 to you"
    assert await said(brain) == "good morning 🦉 to you"
    assert len(server.asked) == 2
    assert server.asked[1]["max_completion_tokens"] == 512


async def test_a_server_that_cannot_be_reached_is_named(server: OpenAIServer) -> None:
    async with OpenAIServer() as other:
        url = other.url
    brain = await made(url)
    assert f"'{url}' cannot be reached" in await complaint(brain)
    await brain.unload()


async def test_a_password_in_the_address_is_not_shown(server: OpenAIServer) -> None:
    async with OpenAIServer() as other:
        url = other.url
    brain = await made(url.replace("://", "://ann:secret@"))
    assert "secret" not in await complaint(brain)
    await brain.unload()


async def test_counts_are_estimated_from_above_where_the_server_cannot_count(brain: OpenAI) -> None:
    assert await brain.count("good morning") >= 3
    assert await brain.count("🦉" * 30) >= 30


async def test_half_a_character_does_not_stop_an_answer(brain: OpenAI) -> None:
    assert await said(brain, Prompt((Turn("user", "a\ud83e b"),))) == "a? b"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("http://127.0.0.1:11434", "http://127.0.0.1:11434/v1"),
        ("http://127.0.0.1:11434/v1/", "http://127.0.0.1:11434/v1"),
        ("https://example.org/openai/v2", "https://example.org/openai/v2"),
        ("https://api.openai.com/v1/chat/completions", "https://api.openai.com/v1"),
    ],
)
def test_addresses_are_read_as_people_write_them(given: str, meant: str) -> None:
    assert read_address(given) == meant


@pytest.mark.parametrize("given", ["", "localhost:8080", "ftp://x", "http://", "http://[", "//x"])
def test_what_is_no_address_is_refused_with_the_key_to_set(given: str) -> None:
    with pytest.raises(BrainError, match="base_url"):
        read_address(given)


def test_a_date_to_wait_for_becomes_seconds() -> None:
    assert retry_after(format_datetime(datetime(2000, 1, 1, tzinfo=UTC), usegmt=True)) == 0.0
    assert (retry_after(format_datetime(datetime(2999, 1, 1, tzinfo=UTC), usegmt=True)) or 0) > 1e9
    assert retry_after("soon") is None


async def test_a_client_that_was_never_used_closes() -> None:
    await Client("http://127.0.0.1:1/v1").close()
