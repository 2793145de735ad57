"""What is signed counts once, and not for long: the same table for every webhook there is."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request
from fuzz.hooks import ANOTHER, HOOKS, NOWHERE, OTHER_ROUTES, Hook

from roost.config import load
from roost.contracts import Channel, Route
from roost.registry import Registry
from roost.webhooks import Nobody

NOW = 1_700_000_000.0
all_hooks = pytest.mark.parametrize("hook", HOOKS.values(), ids=HOOKS)


@pytest.fixture(scope="module")
def registry() -> Registry:
    found = Registry()
    found.load()
    return found


def opened(hook: Hook, registry: Registry, folder: Path) -> Route:
    keys = "\n".join(f"{name} = {value!r}" for name, value in hook.table.items())
    (folder / "bot.toml").write_text(f"[channels.{hook.kind}]\n{keys}\n")
    entry = load(folder / "bot.toml", registry, {}).channels[hook.kind]
    found = entry.cls(hook.kind, entry.config, Nobody(folder)).routes()
    return next(one for one in found if (one.method, one.path) == ("POST", hook.path))


def verified(hook: Hook, route: Route, signed_at: float, monkeypatch: pytest.MonkeyPatch, body: bytes = b"") -> bool:
    for clock in hook.clocks:
        monkeypatch.setattr(clock, lambda: NOW)
    body = body or hook.messages()[0]
    query, headers = hook.sign(hook.table, body, signed_at, "msg_1")
    headers["Content-Type"] = hook.content_type
    return bool(route.verify(make_mocked_request("POST", f"{hook.path}{query}", headers=headers), body))


def test_every_webhook_is_in_the_table(registry: Registry) -> None:
    classes = {name: registry.channels.take(name) for name in registry.channels.entries}
    found = {name for name, cls in classes.items() if cls.routes is not Channel.routes}
    known = {hook.kind for hook in HOOKS.values()}
    assert found == known | OTHER_ROUTES.keys(), (
        "write the webhook into tests/fuzz/hooks.py: how it is signed, how long"
    )


def test_every_webhook_has_a_window_or_says_what_else_there_is() -> None:
    assert [name for name, hook in HOOKS.items() if (hook.window is None) != bool(hook.instead)] == []


@all_hooks
@pytest.mark.parametrize("off", [0, -299, 299, -301, 301, -86_400, 86_400, -NOW], ids=str)
def test_a_signature_counts_for_five_minutes_before_and_after(
    hook: Hook, off: float, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = opened(hook, registry, tmp_path)
    expected = hook.window is None or abs(off) <= hook.window
    assert verified(hook, route, NOW + off, monkeypatch) is expected


@all_hooks
def test_the_time_and_the_body_cannot_be_changed_under_a_signature(
    hook: Hook, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = opened(hook, registry, tmp_path)
    assert verified(hook, route, NOW, monkeypatch)
    body = hook.messages()[0]
    query, headers = hook.sign(hook.table, body, NOW - 3600, "msg_1")
    fresh = hook.sign(hook.table, b"{}", NOW, "msg_1")[1]
    for name, value in fresh.items():
        swapped = {**headers, name: value, "Content-Type": hook.content_type}
        request = make_mocked_request("POST", f"{hook.path}{query}", headers=swapped)
        assert route.verify(request, body) is (hook.window is None and (value == headers[name] or not hook.covers_body))
    other = hook.sign(dict.fromkeys(hook.table, ANOTHER) | {"public_url": NOWHERE}, body, NOW, "msg_1")
    request = make_mocked_request(
        "POST", f"{hook.path}{query}", headers={**other[1], "Content-Type": hook.content_type}
    )
    assert not route.verify(request, body), "another's secret"
