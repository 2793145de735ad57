"""The chat page in a real browser, over the real web face."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect
from tiny_core import Answer, TinyCore, silent

from roost.settings import WebTable
from roost.values import Button, Message, Place, Reply

expect.set_options(timeout=20_000)

pytestmark = [pytest.mark.system("chromium", "chromium"), pytest.mark.asyncio(loop_scope="module")]

ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
CODE = "Here is *one* way:\n\n```python\nprint('hello')\n```\n\nSee [the page](https://example.org/)."
HOSTILE = (
    "<script>window.broken = 1</script>\n\n<img src=x onerror='window.broken = 1'>\n\n"
    "<svg onload='window.broken=1'>\n\n[link](javascript:window.broken=1) [other](JaVaScRiPt:window.broken=1)\n\n"
    "[data](data:text/html,<script>window.broken=1</script>)\n\n"
    '![image](x" onerror="window.broken=1)\n\n`<script>window.broken=1</script>`\n\n'
    '```"><script>window.broken=1</script>\n</code></pre><script>window.broken=1</script>\n```\n\n'
    "<style>body{display:none}</style><iframe srcdoc='<script>parent.broken=1</script>'></iframe>"
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS.split())
        yield browser
        await browser.close()


@asynccontextmanager
async def serving(answer: Answer = silent, table: WebTable | None = None) -> AsyncIterator[TinyCore]:
    core = TinyCore(answer, table)
    await core.start()
    try:
        yield core
    finally:
        await core.stop()


@asynccontextmanager
async def page_of(browser: Browser, core: TinyCore, **options: object) -> AsyncIterator[Page]:
    context: BrowserContext = await browser.new_context(**options)  # type: ignore[arg-type]
    page = await context.new_page()
    try:
        await page.goto(core.web.address)
        await connected(page)
        yield page
    finally:
        await context.close()


async def connected(page: Page) -> None:
    await expect(page.get_by_role("status").filter(has_text="Connected")).to_be_visible()


async def say(page: Page, text: str) -> None:
    await page.get_by_label("Message to Roost").fill(text)
    await page.keyboard.press("Enter")


def place_of(core: TinyCore) -> Place:
    """The conversation of the only page that is open."""
    (chat,) = core.chat._pages
    return Place("web", chat)


async def echo(core: TinyCore, message: Message) -> None:
    await core.say(message.place, Reply(f"You said **{message.text}**."))


async def stream_code(core: TinyCore, message: Message) -> None:
    await core.chat.type(message.place)
    await core.stream(message.place, [CODE[:length] for length in range(5, len(CODE) + 5, 5)])


async def test_an_answer_grows_in_place_and_its_markdown_and_code_are_rendered(browser: Browser) -> None:
    async with serving(stream_code) as core, page_of(browser, core) as page:
        await say(page, "show me")
        answer = page.locator(".bot")
        await expect(answer.locator("em")).to_have_text("one")
        await expect(answer.locator("pre code")).to_contain_text("print('hello')")
        await expect(answer.get_by_role("link", name="the page")).to_have_attribute("target", "_blank")
        await expect(answer).to_have_count(1)
        await expect(answer.get_by_role("button", name="Copy")).to_have_count(1)
        await expect(page.locator(".own .body")).to_have_text("show me")
        await expect(page.locator(".unsent")).to_have_count(0)


async def test_the_copy_button_copies_the_code(browser: Browser) -> None:
    async with (
        serving(stream_code) as core,
        page_of(browser, core, permissions=["clipboard-read", "clipboard-write"]) as page,
    ):
        await say(page, "show me")
        await expect(page.locator(".bot a")).to_be_visible()
        await page.get_by_role("button", name="Copy").click()
        await expect(page.get_by_role("button", name="Copied")).to_be_visible()
        assert await page.evaluate("navigator.clipboard.readText()") == "print('hello')"


async def test_a_growing_answer_keeps_the_nodes_that_stay_the_same(browser: Browser) -> None:
    async with serving() as core, page_of(browser, core) as page:
        place = place_of(core)
        sent = await core.chat.send(place, Reply("first\n\n```\ncode\n```\n\nthi"))
        await page.locator(".bot pre").evaluate("pre => { pre.marked = true }")
        await core.chat.edit(sent, Reply("first\n\n```\ncode\n```\n\nthird *part*"))
        await expect(page.locator(".bot em")).to_have_text("part")
        assert await page.locator(".bot pre").evaluate("pre => pre.marked") is True


async def test_the_typing_indicator_shows_until_the_answer_comes(browser: Browser) -> None:
    async with serving() as core, page_of(browser, core) as page:
        place = place_of(core)
        await core.chat.type(place)
        await expect(page.get_by_text("Roost is writing")).to_be_attached()
        await expect(page.locator("#typing")).to_be_visible()
        await core.say(place, Reply("here"))
        await expect(page.locator("#typing")).to_be_hidden()


async def test_the_typing_indicator_ends_with_the_connection(browser: Browser) -> None:
    async with serving() as core, page_of(browser, core) as page:
        await core.chat.type(place_of(core))
        await expect(page.locator("#typing")).to_be_visible()
        core.running.cancel()
        await expect(page.locator("#typing")).to_be_hidden()


async def test_half_a_character_is_sent_as_a_whole_one(browser: Browser) -> None:
    async with serving() as core, page_of(browser, core) as page:
        await page.get_by_label("Message to Roost").evaluate("text => { text.value = 'a\\ud83d b \\ud83d\\ude00' }")
        await page.keyboard.press("Enter")
        await expect(page.locator(".own:not(.unsent)")).to_have_count(1)
        assert core.received[0].text == "a\N{REPLACEMENT CHARACTER} b 😀"


async def test_markup_in_what_is_said_and_answered_is_inert(browser: Browser) -> None:
    async def repeat(core: TinyCore, message: Message) -> None:
        await core.say(message.place, Reply(message.text))

    async with serving(repeat) as core, page_of(browser, core) as page:
        refused: list[str] = []
        page.on("console", lambda message: refused.append(message.text))
        await say(page, HOSTILE)
        await expect(page.locator(".bot")).to_be_visible()
        await expect(page.locator(".own .body")).to_have_text(re.compile(re.escape("<script>window.broken = 1")))
        await page.reload()
        await expect(page.locator(".bot")).to_be_visible()
        await expect(page.locator(".own .body")).to_have_text(re.compile(re.escape("<script>window.broken = 1")))
        assert await page.evaluate("window.broken") is None
        inside = page.locator(".message")
        assert await inside.locator("script, style, iframe, svg, img[onerror], [onload]").count() == 0
        for link in await inside.locator("a").all():
            assert re.match("https?:", await link.get_attribute("href") or "https:")
        assert refused == []


async def test_the_policy_stops_a_script_that_got_into_the_page_all_the_same(browser: Browser) -> None:
    async with serving() as core, page_of(browser, core) as page:
        refused: list[str] = []
        page.on("console", lambda message: refused.append(message.text))
        for html in ("<img src=x onerror='window.broken=1'>", "<a id=bad href='javascript:window.broken=1'>x</a>"):
            await page.evaluate("html => { document.querySelector('#log').innerHTML = html }", html)
        await page.locator("#bad").click()
        await page.evaluate(
            "() => { const s = document.createElement('script'); s.text = 'window.broken=1'; document.body.append(s) }"
        )
        assert await page.evaluate("window.broken") is None
        assert any("Content Security Policy" in line for line in refused)


async def test_a_reload_keeps_the_conversation_without_doubles(browser: Browser) -> None:
    async with serving(echo) as core, page_of(browser, core) as page:
        for text in ("one", "two"):
            await say(page, text)
            await expect(page.locator(".bot").filter(has_text=f"You said {text}.")).to_be_visible()
        await page.reload()
        await connected(page)
        bodies = page.locator(".message .body")
        await expect(bodies).to_have_text(["one", "You said one.", "two", "You said two."])
        assert len(core.received) == 2


async def test_a_second_tab_joins_the_conversation_and_follows_it(browser: Browser) -> None:
    async with serving(echo) as core, page_of(browser, core) as page:
        other = await page.context.new_page()
        await other.goto(core.web.address)
        await connected(other)
        await say(page, "hello")
        for tab in (page, other):
            await expect(tab.locator(".message .body")).to_have_text(["hello", "You said hello."])


async def test_a_new_conversation_is_empty_and_the_last_one_can_be_had_back(browser: Browser) -> None:
    async with serving(echo) as core, page_of(browser, core) as page:
        await say(page, "hello")
        await expect(page.locator(".bot")).to_be_visible()
        await page.get_by_role("button", name="New conversation").click()
        await expect(page.get_by_text("Say something to Roost.")).to_be_visible()
        await say(page, "again")
        await expect(page.locator(".message .body")).to_have_text(["again", "You said again."])
        assert len({message.place for message in core.received}) == 2
        await page.get_by_role("button", name="New conversation").click()
        await page.get_by_role("button", name="Back to the last conversation").click()
        await expect(page.locator(".message .body")).to_have_text(["again", "You said again."])


async def test_what_was_said_while_the_server_was_away_arrives_once(browser: Browser) -> None:
    async with serving(echo) as core, page_of(browser, core) as page:
        port = int(core.web.address.rpartition(":")[2])
        await say(page, "before")
        await expect(page.locator(".bot")).to_have_count(1)
        await core.stop()
        await expect(page.get_by_text("Not connected, trying again")).to_be_visible()
        await say(page, "while away")
        await expect(page.get_by_text("Not sent yet")).to_be_visible()
        await core.start(port)
        await connected(page)
        await expect(page.locator(".message .body")).to_have_text(
            ["before", "You said before.", "while away", "You said while away."]
        )
        await expect(page.get_by_text("Not sent yet")).to_have_count(0)
        assert [message.text for message in core.received] == ["before", "while away"]


async def test_what_was_received_but_not_acknowledged_is_said_again_and_not_doubled(browser: Browser) -> None:
    async with serving() as core, page_of(browser, core) as page:
        receive, place = core.chat._receive, place_of(core)
        assert receive is not None

        async def lose_the_answer(message: Message) -> bool:
            await receive(message)
            core.chat._receive = receive
            raise OSError("cut before the acknowledgement")

        core.chat._receive = lose_the_answer  # type: ignore[assignment]
        await say(page, "once")
        await expect(page.locator(".own:not(.unsent)")).to_have_count(1)
        assert [message.text for message in core.received] == ["once"]
        assert len(core.lines[place.chat]) == 1


async def test_what_was_not_sent_survives_a_reload(browser: Browser) -> None:
    async with serving() as core, page_of(browser, core) as page:
        core.accepting.clear()
        await say(page, "keep me")
        await expect(page.locator(".unsent")).to_have_count(1)
        await page.reload()
        await expect(page.locator(".own .body")).to_have_text("keep me")
        core.accepting.set()
        await expect(page.locator(".unsent")).to_have_count(0)
        assert [message.text for message in core.received] == ["keep me"]


async def test_a_message_that_is_too_long_stays_in_the_composer(browser: Browser) -> None:
    async with serving() as core, page_of(browser, core) as page:
        await say(page, "x" * 200_000)
        await expect(page.get_by_role("alert")).to_contain_text("too long")
        assert len(await page.get_by_label("Message to Roost").input_value()) == 200_000
        assert core.received == []


async def test_everything_can_be_done_with_the_keyboard_alone(browser: Browser) -> None:
    async def ask(core: TinyCore, message: Message) -> None:
        await core.say(message.place, Reply("Sure?", buttons=(Button("Yes", "y"), Button("No", "n"))))

    async with serving(ask) as core, page_of(browser, core) as page:
        await expect(page.get_by_label("Message to Roost")).to_be_focused()
        await page.keyboard.type("first")
        await page.keyboard.press("Shift+Enter")
        await page.keyboard.type("second")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("button", name="Yes")).to_be_visible()
        assert core.received[0].text == "first\nsecond"
        await page.keyboard.press("Shift+Tab")
        await page.keyboard.press("Shift+Tab")
        await expect(page.get_by_role("button", name="Yes")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator(".own .body")).to_have_text(["first\nsecond", "y"])
        assert core.received[1].text == "y"


async def test_reading_further_up_is_not_disturbed_and_a_button_leads_back(browser: Browser) -> None:
    async with serving() as core, page_of(browser, core) as page:
        place = place_of(core)
        for number in range(30):
            await core.say(place, Reply(f"line {number}"))
        await expect(page.get_by_text("line 29")).to_be_in_viewport()
        await page.locator("#scroller").evaluate("scroller => { scroller.scrollTop = 0 }")
        await expect(page.get_by_text("line 0", exact=True)).to_be_in_viewport()
        sent = await core.chat.send(place, Reply("news"))
        await core.chat.edit(sent, Reply("news " * 500))
        await expect(page.get_by_role("button", name="New", exact=False).filter(has_text="↓")).to_be_visible()
        assert await page.locator("#scroller").evaluate("scroller => scroller.scrollTop") == 0
        await page.get_by_role("button", name="↓ New").click()
        assert await page.locator("#scroller").evaluate(
            "scroller => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 2"
        )
        await expect(page.get_by_role("button", name="↓ New")).to_be_hidden()


LONG = (
    f"{CODE}\n\n| a table | with | many | columns | that | are | wide |\n|-|-|-|-|-|-|-|\n| 1 | 2 | 3 | 4 | 5 | 6 | 7 |"
    f"\n\n{'unbreakable' * 30}\n\n```\n{'a long line of code ' * 20}\n```\n\n> A quote.\n\n1. one\n2. two"
)


async def test_a_phone_has_no_sideways_scroll_and_no_zoom_on_focus(browser: Browser, tmp_path: Path) -> None:
    phone = {"viewport": {"width": 360, "height": 640}, "has_touch": True, "is_mobile": True}
    async with serving(echo) as core, page_of(browser, core, **phone) as page:
        await say(page, f"a question {'w' * 200}")
        await core.say(place_of(core), Reply(LONG, buttons=(Button("A long choice " * 5), Button("B"))))
        await expect(page.get_by_role("button", name="B", exact=True)).to_be_visible()
        width = "Math.max(document.documentElement.scrollWidth, document.querySelector('#scroller').scrollWidth)"
        assert await page.evaluate(width) <= 360
        size = "element => parseFloat(getComputedStyle(element).fontSize)"
        assert await page.get_by_label("Message to Roost").evaluate(size) >= 16
        await page.screenshot(path=tmp_path / "phone.png")


CONTRAST = """selector => {
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const parts = text => text.match(/[\\d.]+/g).map(Number);
  const element = document.querySelector(selector);
  let behind = element;
  while (parts(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
  const [one, two] = [light(parts(getComputedStyle(element).color)),
    light(parts(getComputedStyle(behind).backgroundColor))].sort((a, b) => b - a);
  return (one + 0.05) / (two + 0.05);
}"""
WORDS = ("h1", "#state", "#fresh", ".own .body", ".bot .body", ".meta", ".author", ".bot a", ".copy", ".choices button")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_words_stand_out_from_what_is_behind_them(browser: Browser, tmp_path: Path, scheme: str) -> None:
    async with serving() as core, page_of(browser, core, color_scheme=scheme) as page:
        await say(page, "How do I say hello?")
        await core.say(place_of(core), Reply(LONG, buttons=(Button("Yes"), Button("No"))))
        await core.chat.type(place_of(core))
        await expect(page.get_by_role("button", name="Yes")).to_be_visible()
        for words in (*WORDS, "#send"):
            ratio = await page.evaluate(CONTRAST, words)
            assert ratio >= 4.5, f"{words} has a contrast of {ratio:.2f} in the {scheme} scheme"
        await page.screenshot(path=tmp_path / f"{scheme}.png")


async def test_the_dark_scheme_has_other_colours(browser: Browser) -> None:
    colours = set()
    for scheme in ("light", "dark"):
        async with serving() as core, page_of(browser, core, color_scheme=scheme) as page:
            colours.add(await page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(colours) == 2


async def test_the_page_tells_assistive_technology_what_is_what(browser: Browser) -> None:
    async with serving(echo) as core, page_of(browser, core) as page:
        await say(page, "hello")
        await expect(page.locator(".bot")).to_be_visible()
        tree = await page.locator("body").aria_snapshot()
        for part in (
            "- banner:",
            '- heading "Roost" [level=1]',
            "- main:",
            '- log "Conversation with Roost"',
            "- article",
            '- textbox "Message to Roost"',
            '- button "Send"',
            '- button "New conversation"',
        ):
            assert part in tree, tree
        assert await page.get_by_role("log").get_attribute("aria-live") == "polite"


async def test_screen_readers_wait_for_the_end_of_a_growing_answer(browser: Browser) -> None:
    async with serving() as core, page_of(browser, core) as page:
        await core.stream(place_of(core), ["a", "a b", "a b c"])
        log = page.get_by_role("log")
        await expect(log).to_have_attribute("aria-busy", "true")
        await expect(log).not_to_have_attribute("aria-busy", "true")


async def test_with_a_token_the_page_is_behind_the_login_and_returns_to_it(browser: Browser, tmp_path: Path) -> None:
    context = await browser.new_context()
    async with serving(echo, WebTable(port=0, token="correct horse battery")) as core:
        page = await context.new_page()
        await page.goto(core.web.address)
        await page.screenshot(path=tmp_path / "login.png")
        await page.get_by_label("Token").fill("wrong")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_have_text("That is not the token.")
        await page.get_by_label("Token").fill("correct horse battery")
        await page.keyboard.press("Enter")
        await connected(page)
        await say(page, "hello")
        await expect(page.locator(".bot")).to_be_visible()
        port = int(core.web.address.rpartition(":")[2])
        await context.clear_cookies()
        await core.stop()
        await core.start(port)
        await expect(page.get_by_label("Token")).to_be_visible()
        await context.close()
