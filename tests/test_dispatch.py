"""Hooks: in order, isolated, limited in time; every one documented."""

from __future__ import annotations

import inspect
import types
from typing import Any

import pytest

from roost import hookimpl, hookspecs
from roost.dispatch import Dispatcher
from roost.registry import Registry


def plugin(function: Any) -> types.ModuleType:
    module = types.ModuleType("plug")
    module.on_event = hookimpl(specname="on_event")(function)  # type: ignore[attr-defined]
    return module


def dispatcher(*functions: Any) -> Dispatcher:
    registry = Registry()
    for number, function in enumerate(functions):
        registry.add(plugin(function), f"p{number}")
    return Dispatcher(registry, time_limit=0.05)


async def answers(dispatch: Dispatcher) -> list[Any]:
    return [one async for one in dispatch.each("on_event", bot="b", event="e")]


async def test_answers_come_in_the_order_of_registration_sync_or_async() -> None:
    async def second(event: str) -> str:
        return f"second {event}"

    assert await answers(dispatcher(lambda bot: f"first {bot}", second, lambda: None, lambda: "last")) == [
        "first b",
        "second e",
        "last",
    ]


async def test_one_that_fails_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def bad() -> None:
        raise RuntimeError("no")

    assert await answers(dispatcher(bad, lambda: "fine")) == ["fine"]
    assert "The plugin 'p0' failed in on_event." in caplog.text


async def test_one_that_takes_too_long_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    import asyncio

    async def slow() -> None:
        await asyncio.Event().wait()

    assert await answers(dispatcher(slow, lambda: "fine")) == ["fine"]
    assert "The plugin 'p0' took more than 0.05 s in on_event" in caplog.text


def test_every_hook_has_one_line_of_doc_and_typed_arguments() -> None:
    hooks = [one for one in vars(hookspecs).values() if hasattr(one, "roost_spec")]
    assert len(hooks) >= 12
    for hook in hooks:
        assert inspect.getdoc(hook), hook.__name__
        assert all(one.annotation is not inspect.Parameter.empty for one in inspect.signature(hook).parameters.values())
