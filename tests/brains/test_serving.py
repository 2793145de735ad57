"""`roost serve-model` over the socket, with OpenAI's own client and one that has nothing of it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import psutil
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from click.testing import CliRunner
from huggingface_hub import InferenceClient
from openai import AsyncOpenAI, OpenAI
from tiny_gguf import gguf

from roost.brains import face as faces
from roost.brains.calls import must_call
from roost.brains.chat_template import fault, with_tools
from roost.brains.engine import KEY, command
from roost.brains.face import Face, Service
from roost.brains.trial import model as zeros

OWLS = [{"role": "user", "content": "Tell me about owls."}]
LONG = [{"role": "user", "content": "word " * 1900}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"enum": ["Paris", "Rome"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 9},
            },
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
ROOM = 500  # tokens: more than JSON can take here with all the white space that llama.cpp lets a model put in
TIME = {"type": "function", "function": {"name": "time", "description": "The time of day."}}
HERMES = (
    "{% if tools %}<|im_start|>system\nCall with <tool_call></tool_call>:{% for tool in tools %}{{ tool | tojson }}"
    "{% endfor %}<|im_end|>\n{% endif %}{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.tool_calls %}{% for call in message.tool_calls %}<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n</tool_call>'
    "{% endfor %}{% else %}{{ message.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ENDLESS = "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}"


class Served:
    """A `roost serve-model` of its own: its address, and its process."""

    def __init__(self, model: Path, *arguments: str, keys: str = "") -> None:
        options = ("--model-path", str(model), "--port", "0", "--context", "2048", "--cache-ram", "64", *arguments)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "roost", "serve-model", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, KEY: keys},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.url = json.loads(line)["address"] if line else ""

    def said(self) -> str:
        """All it wrote to its standard error, once it has ended."""
        return self.process.communicate(timeout=60)[1]

    def engine(self) -> psutil.Process:
        return next(
            one for one in psutil.Process(self.process.pid).children() if "roost.brains.engine" in one.cmdline()
        )

    def client(self, key: str = "first", **more: Any) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=60, **more)

    def close(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=60)


@contextlib.contextmanager
def serve(model: Path, *arguments: str, keys: str = "first") -> Iterator[Served]:
    one = Served(model, *arguments, keys=keys)
    try:
        yield one
    finally:
        one.close()


@pytest.fixture(scope="module")
def served(model: Path) -> Iterator[Served]:
    with serve(model, keys="first, second") as one:
        yield one


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[OpenAI]:
    with served.client() as one:
        yield one


def tiny(folder: Path, template: str = HERMES) -> Path:
    path = folder / "zeros.gguf"
    path.write_bytes(zeros(template))
    return path


async def figure(session: aiohttp.ClientSession, url: str, name: str) -> float:
    """One of the metrics."""
    async with session.get(f"{url}/metrics", headers={"Authorization": "Bearer first"}) as answer:
        found = re.search(rf"^{re.escape(name)} ([0-9.e+]+)$", await answer.text(), re.MULTILINE)
    return float(found[1]) if found else 0.0


async def read(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> bytes:
    async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
        return await answer.read()


async def until(session: aiohttp.ClientSession, url: str, busy: int) -> None:
    async with asyncio.timeout(60):
        while await figure(session, url, "llamacpp:requests_processing") != busy:
            await asyncio.sleep(0.02)


# OpenAI's client


def test_a_chat_has_an_answer_and_its_cost(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="any", messages=OWLS, max_tokens=12, temperature=0)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None and answer.usage.completion_tokens == 12


def test_a_stream_has_the_same_words_and_nothing_but_what_the_api_knows(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "any", "messages": OWLS, "max_tokens": 12, "temperature": 0}
    whole = client.chat.completions.create(**asked).choices[0].message.content
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == whole
    assert len(chunks) > 6
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 12
    assert not any("prompt_progress" in (chunk.model_extra or {}) for chunk in chunks)


def test_plain_completions_continue_a_text(client: OpenAI) -> None:
    answer = client.completions.create(model="any", prompt="One, two, three, four, five,", max_tokens=4, temperature=0)
    assert answer.choices[0].text.strip().startswith("six")


def test_the_responses_api_answers(client: OpenAI) -> None:
    assert client.responses.create(model="any", input="Say hello.", max_output_tokens=8, temperature=0).output_text


def test_texts_become_vectors_on_the_server_that_chats(client: OpenAI) -> None:
    texts = ["The cat sleeps.", "The cat sleeps.", "Taxes are due.", "long " * 300]
    found = [one.embedding for one in client.embeddings.create(model="any", input=texts).data]
    assert [len(one) for one in found] == [576] * 4
    assert sum(number * number for number in found[3]) == pytest.approx(1, abs=1e-3)
    assert found[0] == pytest.approx(found[1], abs=1e-3) and found[0] != pytest.approx(found[2], abs=1e-2)


def test_an_answer_keeps_to_a_schema(client: OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"bird": {"enum": ["owl", "hen"]}, "legs": {"type": "integer", "maximum": 9, "minimum": 0}},
        "required": ["bird", "legs"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model="any",
        messages=OWLS,
        max_tokens=ROOM,
        response_format={"type": "json_schema", "json_schema": {"name": "bird", "schema": schema, "strict": True}},
    )
    found = json.loads(answer.choices[0].message.content or "")
    assert found["bird"] in {"owl", "hen"} and 0 <= found["legs"] <= 9


def test_the_model_is_listed_and_found_by_its_name(client: OpenAI) -> None:
    (listed,) = client.models.list().data
    assert listed.id == "SmolLM2-135M-Instruct.Q4_1"
    assert client.models.retrieve(listed.id).id == listed.id
    with pytest.raises(openai.NotFoundError, match="no model 'other' here, only 'SmolLM2"):
        client.models.retrieve("other")


def test_a_tool_is_called_though_the_template_knows_none(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="any",
        messages=[{"role": "user", "content": "How is the weather in Rome?"}],
        tools=[TIME, WEATHER],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        max_tokens=ROOM,
    )
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    (call,) = choice.message.tool_calls or []
    assert call.type == "function" and call.function.name == "weather"
    assert is_weather(json.loads(call.function.arguments))


def test_a_model_that_was_shown_calls_makes_one_by_itself_and_gets_its_result(client: OpenAI) -> None:
    talk: list[Any] = []
    for number, city in enumerate(("Rome", "Paris", "Rome")):
        talk += [
            {"role": "user", "content": f"How is the weather in {city}?"},
            {"role": "assistant", "content": "", "tool_calls": [called(f"c{number}", city)]},
            {"role": "tool", "tool_call_id": f"c{number}", "content": "Rain"},
            {"role": "assistant", "content": "Rain."},
        ]
    talk.append({"role": "user", "content": "How is the weather in Paris?"})
    asked: dict[str, Any] = {"model": "any", "tools": [WEATHER], "max_tokens": 60, "temperature": 0}
    choice = client.chat.completions.create(messages=talk, **asked).choices[0]
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls or []
    assert call.function.name == "weather" and is_weather(json.loads(call.function.arguments))
    talk += [choice.message.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": call.id, "content": "Hail"}]
    assert client.chat.completions.create(messages=talk, **asked).choices[0].message.content


def called(id: str, city: str) -> dict[str, Any]:
    return {
        "id": id,
        "type": "function",
        "function": {"name": "weather", "arguments": f'{{"city": "{city}", "days": 1}}'},
    }


def is_weather(arguments: dict[str, Any]) -> bool:
    return (
        arguments.keys() == {"city", "days"}
        and arguments["city"] in {"Paris", "Rome"}
        and arguments["days"] in range(10)
    )


# The other client


def test_another_client_chats_and_streams(served: Served) -> None:
    other = InferenceClient(base_url=served.url, api_key="second")
    whole = other.chat_completion(OWLS, max_tokens=8, temperature=0).choices[0].message.content
    chunks = other.chat_completion(OWLS, max_tokens=8, temperature=0, stream=True)
    assert whole and len(list(chunks)) > 4


def test_another_client_streams_a_call_that_it_requires(served: Served) -> None:
    other = InferenceClient(base_url=served.url, api_key="second")
    chunks = list(
        other.chat_completion(OWLS, tools=[WEATHER], tool_choice="required", max_tokens=ROOM, stream=True)  # type: ignore[list-item]
    )
    (call,) = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert call.function.name == "weather" and is_weather(json.loads(call.function.arguments))
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


# Tools and templates


def test_a_model_that_knows_nothing_still_calls_well_when_it_must(tmp_path: Path) -> None:
    with serve(tiny(tmp_path)) as one, one.client() as client:
        for seed in range(5):
            answer = client.chat.completions.create(
                model="any", messages=OWLS, tools=[WEATHER], tool_choice="required", max_tokens=ROOM, seed=seed
            )
            (call,) = answer.choices[0].message.tool_calls or []
            assert is_weather(json.loads(call.function.arguments)), seed


def test_only_a_choice_that_leaves_no_choice_is_a_call_that_must_be_made() -> None:
    named = {"type": "function", "function": {"name": "x"}}
    assert [must_call({"tool_choice": one}) for one in ("required", named, "auto", "none", None)] == [True] * 2 + [
        False
    ] * 3


def test_a_template_that_knows_tools_stays_as_it_is() -> None:
    assert with_tools(HERMES) == HERMES
    assert with_tools("") == ""
    assert with_tools(CHATML).endswith(CHATML)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (CHATML, ""),
        (HERMES, ""),
        ("{% for %}", "cannot read|can read"),
        ("{% macro again(x) %}{{ again(x) }}{% endmacro %}{{ again(1) }}", "crash"),
        pytest.param(
            ENDLESS, "come to an end", marks=pytest.mark.skipif(os.name != "posix", reason="takes long there")
        ),
    ],
)
def test_a_template_is_tried_with_limits(template: str, why: str) -> None:
    assert re.search(why, fault(template)) and bool(why) == bool(fault(template))


# Who is let in


def test_nobody_gets_in_without_a_key(served: Served) -> None:
    with served.client("wrong") as stranger:
        with pytest.raises(openai.AuthenticationError, match="needs a key"):
            stranger.chat.completions.create(model="any", messages=OWLS)
        with pytest.raises(openai.AuthenticationError):
            stranger.models.list()
    with served.client("second") as friend:
        assert friend.models.list().data


async def test_paths_without_a_key_tell_nothing_but_health(served: Served) -> None:
    async with aiohttp.ClientSession() as session:
        for path, status in (("/health", 200), ("/metrics", 401), ("/v1/models", 401), ("/props", 401)):
            async with session.get(served.url + path) as answer:
                assert answer.status == status, path
        headers = {"Authorization": "Bearer first"}
        for path in ("/props", "/slots", "/lora-adapters", "/"):
            async with session.get(served.url + path, headers=headers) as answer:
                assert answer.status == 404, path


async def test_keys_in_a_file_come_and_go_while_it_runs(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# Ann's\nannskey\n\nbobskey\n")
    file.chmod(0o600)
    face = Face(Service(("--model-path", str(tiny(tmp_path))), "zeros", key_file=file))
    async with running(face) as client:
        assert [await status(client, key) for key in ("annskey", "bobskey", "#", "kéy", "")] == [
            200,
            200,
            401,
            401,
            401,
        ]
        file.write_text("bobskey\n")
        assert [await status(client, key) for key in ("annskey", "bobskey")] == [401, 200]
        file.unlink()
        assert await status(client, "bobskey") == 401


async def test_without_a_key_only_programs_on_this_machine_get_in(tmp_path: Path) -> None:
    face = Face(Service(("--model-path", str(tiny(tmp_path))), "zeros"))
    async with running(face) as client:
        assert await status(client, "kéy") == 200
        assert await status(client, Host="evil.example") == 403
        assert await status(client, Host="localhost:8080") == 200
        assert await status(client, Origin="http://evil.example") == 403


@contextlib.asynccontextmanager
async def running(face: Face) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    async with TestClient(TestServer(face.application(), handler_cancellation=True)) as client:
        yield client
    await face.close()


async def status(client: TestClient[web.Request, web.Application], key: str = "", **headers: str) -> int:
    if key:
        headers["Authorization"] = f"Bearer {key}"
    async with client.get("/v1/models", headers=headers) as answer:
        await answer.read()
        return answer.status


# How it ends, and what it survives


def test_answers_in_progress_are_finished_when_it_stops(model: Path) -> None:
    with serve(model, "--grace", "120") as one, one.client() as client:
        pieces = client.chat.completions.create(
            model="any", messages=OWLS, max_tokens=150, stream=True, extra_body={"ignore_eos": True}
        )
        next(pieces)
        engine = one.engine()
        one.process.send_signal(signal.SIGTERM)
        rest = list(pieces)
        assert rest[-1].choices[0].finish_reason == "length"
        assert len(rest) > 100
        assert one.process.wait(30) == 0 or os.name == "nt"
        assert not engine.is_running()


def test_an_answer_that_takes_too_long_for_the_end_is_broken_off_with_a_reason(model: Path) -> None:
    with serve(model, "--grace", "0.2") as one, one.client() as client:
        pieces = client.chat.completions.create(
            model="any", messages=OWLS, max_tokens=1800, stream=True, extra_body={"ignore_eos": True}
        )
        next(pieces)
        one.process.send_signal(signal.SIGTERM)
        with pytest.raises(openai.APIError, match="had to stop"):
            list(pieces)
        assert one.process.wait(30) == 0


async def test_who_goes_away_in_the_middle_of_a_prompt_frees_the_slot(served: Served) -> None:
    headers = {"Authorization": "Bearer first"}
    async with aiohttp.ClientSession(headers=headers) as session:
        asking = asyncio.create_task(read(session, served.url, {"messages": LONG, "stream": True, "max_tokens": 5}))
        await until(session, served.url, busy=1)
        asking.cancel()
        await asyncio.wait([asking])
        await until(session, served.url, busy=0)
        timings = json.loads(await read(session, served.url, {"messages": LONG, "max_tokens": 1}))["timings"]
    assert timings["prompt_n"] > 256  # two batches at least had not been read


async def test_an_engine_that_dies_is_told_of_and_started_again(served: Served) -> None:
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="first", max_retries=0) as client:
        pieces = await client.chat.completions.create(
            model="any", messages=OWLS, max_tokens=1000, stream=True, extra_body={"ignore_eos": True}
        )
        await anext(pieces)
        served.engine().kill()
        with pytest.raises(openai.APIError, match="The engine stopped in the middle"):
            async for _ in pieces:
                pass
        answer = await client.chat.completions.create(model="any", messages=OWLS, max_tokens=2, temperature=0)
        assert answer.choices[0].message.content
    async with aiohttp.ClientSession() as session:
        assert await figure(session, served.url, "roost_engine_starts_total") == 2


async def test_a_template_that_goes_astray_later_does_not_hold_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faces, "SILENCE", 0.5)
    monkeypatch.setattr(faces, "PROBE", 3.0)
    path = tiny(tmp_path, "{% if messages | length > 30 %}" + ENDLESS + "{% endif %}" + CHATML)
    async with running(Face(Service(("--model-path", str(path)), "zeros"))) as client:
        async with client.post("/v1/chat/completions", json={"messages": OWLS * 31, "max_tokens": 2}) as answer:
            assert answer.status == 400
            assert "does not come to an end with this conversation" in (await answer.json())["error"]["message"]
        monkeypatch.undo()  # an engine that has just been started may take its time
        async with client.post("/v1/chat/completions", json={"messages": OWLS, "max_tokens": 2}) as answer:
            assert answer.status == 200


async def test_health_says_when_it_is_not_ready(tmp_path: Path) -> None:
    face = Face(Service(("--model-path", str(tiny(tmp_path))), "zeros"))
    async with running(face) as client:
        for expected in (503, 200, 503):
            async with client.get("/health") as answer:
                assert answer.status == expected
            if expected == 503:
                await face.engine.address()
            else:
                face.stopping.set()
        async with client.post("/v1/completions", json={"prompt": "x"}) as answer:
            assert answer.status == 503 and "Retry-After" in answer.headers


async def test_metrics_count_what_was_asked(served: Served) -> None:
    name = 'roost_requests_total{path="/v1/chat/completions",status="400"}'
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer first"}) as session:
        await read(session, served.url, {"messages": OWLS, "max_tokens": 2})
        before = await figure(session, served.url, name)
        async with session.post(f"{served.url}/v1/chat/completions", data=b"{") as answer:
            assert answer.status == 400
        assert await figure(session, served.url, name) == before + 1
        assert await figure(session, served.url, "llamacpp:n_decode_total") > 0
        assert await figure(session, served.url, "roost_requests_running") == 1


# Bad input


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        (b"{", 400, "not JSON"),
        (b"[" * 100_000, 400, "not JSON"),
        (b"\xff\xfe", 400, "not JSON"),
        (b"[1]", 400, "must be a JSON object"),
        (b"{}", 400, "'messages' is required"),
        (b'{"messages": []}', 400, "'messages' is empty"),
        (b'{"messages": 1}', 400, "array"),
        (b'{"messages": [{"role": "user", "content": "x"}], "temperature": "hot"}', 400, "temperature"),
        (b'{"messages": [{"role": "user", "content": "x"}], "grammar": "root ::= root"}', 400, "grammar"),
        (b'{"messages": [{"role": "user", "content": "x"}], "tool_choice": "required"}', 400, "'tools' must be a list"),
        (
            b'{"messages": [{"role": "user", "content": "x"}], '
            b'"tools": [{"type": "function", "function": {"name": "a"}}], '
            b'"tool_choice": {"type": "function", "function": {"name": "b"}}}',
            400,
            "function 'b', which is not among",
        ),
        (json.dumps({"messages": LONG * 4}).encode(), 400, "context"),
    ],
)
async def test_bad_requests_are_refused_with_a_reason(served: Served, body: bytes, status: int, why: str) -> None:
    headers = {"Authorization": "Bearer first"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{served.url}/v1/chat/completions", data=body) as answer,
    ):
        error = (await answer.json())["error"]
    assert answer.status == status and why in error["message"]


async def test_a_request_that_is_too_large_is_refused(served: Served) -> None:
    headers = {"Authorization": "Bearer first"}
    async with aiohttp.ClientSession(headers=headers) as session:
        asked = session.post(f"{served.url}/v1/completions", data=io.BytesIO(bytes(65 << 20)))
        async with asked as answer:
            assert answer.status == 413 and "larger than 64 MB" in await answer.text()


async def test_wrong_paths_and_methods_are_named(served: Served) -> None:
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer first"}) as session:
        async with session.get(f"{served.url}/v1/chat/completions") as answer:
            assert answer.status == 405 and "GET /v1/chat/completions" in await answer.text()
        async with session.post(f"{served.url}/v2/chat", json={}) as answer:
            assert answer.status == 404 and "no '/v2/chat' here" in await answer.text()


def refused(path: Path, *arguments: str) -> str:
    """What it says when it does not start."""
    one = Served(path, *arguments)
    assert not one.url
    said = one.said()
    assert one.process.returncode == 1 and "Traceback" not in said
    return said


def test_a_file_that_is_no_model_is_refused(tmp_path: Path, model: Path) -> None:
    (tmp_path / "page.gguf").write_bytes(b"<html>")
    assert "does not begin like a GGUF file" in refused(tmp_path / "page.gguf")
    (tmp_path / "short.gguf").write_bytes(model.read_bytes()[:5_000_000])
    assert "cut short" in refused(tmp_path / "short.gguf")
    (tmp_path / "strange.gguf").write_bytes(gguf())
    assert "could not start" in refused(tmp_path / "strange.gguf")


def test_why_the_engine_does_not_take_a_file_is_said_and_nothing_else(tmp_path: Path) -> None:
    path = tiny(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"llama", b"xlama"))
    said = refused(path)
    assert "unknown model architecture: 'xlama'" in said
    assert not re.search("status 1|common_init|input params", said)


@pytest.mark.parametrize(
    "wrong",
    ["--port 99999", "--port -1", "--slots 0", "--context 0", "--threads -4", "--cache-ram -1", "--grace -1"],
)
def test_numbers_that_no_server_can_have_are_refused(tmp_path: Path, wrong: str) -> None:
    done = CliRunner().invoke(command, ["--model-path", str(tmp_path / "any.gguf"), *wrong.split()])
    assert done.exit_code == 2 and "is not in the range" in done.output


@pytest.mark.skipif(os.name != "posix", reason="no limit of processor time there")
def test_a_model_with_an_endless_template_is_refused(tmp_path: Path) -> None:
    assert re.search(r"template in '.*zeros\.gguf' does not come to an end", refused(tiny(tmp_path, ENDLESS)))


def test_what_cannot_be_served_is_said_before_anything_is_served(tmp_path: Path, model: Path) -> None:
    path = tiny(tmp_path)
    (tmp_path / "keys").write_text("\n# none\n")
    assert "set a key in the environment" in refused(path, "--host", "0.0.0.0")
    assert "has no keys" in refused(path, "--key-file", str(tmp_path / "keys"))
    assert "cannot be read" in refused(path, "--key-file", str(tmp_path / "absent"))
    assert re.search(r"needs .* of memory", refused(model, "--context", "8192", "--slots", "8", "--memory", "200M"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "Cannot listen on" in refused(path, "--port", str(taken.getsockname()[1]))
