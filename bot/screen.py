"""What `roost chat` shows at a terminal: answers as they grow, Markdown rendered."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TextIO

from roost.keyboard import PROMPT
from roost.link import Frame

if TYPE_CHECKING:
    from markdown_it.token import Token
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.live import Live
    from rich.markdown import Markdown
    from rich.segment import Segment

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
FRAME_SECONDS = 0.1


class Growing:
    """The end of an answer that is being written, as much of it as the screen holds, above a spinner."""

    def __init__(self, spinner: RenderableType) -> None:
        self.text = ""
        self._spinner = spinner
        self._drawn: tuple[str, int] = ("", 0)
        self._lines: list[list[Segment]] = []

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        if self._drawn != (self.text, options.max_width):
            self._lines = console.render_lines(markdown(self.text), options, pad=False) if self.text else []
            self._drawn = (self.text, options.max_width)
        for line in self._lines[-max(1, console.height - 3) :]:
            yield from line
            yield Segment.line()
        yield self._spinner


class Screen:
    """What is shown: finished messages once and for good, a growing one redrawn in its place."""

    def __init__(self, stdout: TextIO) -> None:
        from rich.console import Console
        from rich.spinner import Spinner
        from rich.theme import Theme

        # Neither theme nor code has a background: the terminal's own may be dark or light.
        self.console = Console(file=stdout, highlight=False, theme=Theme({"markdown.code": "bold cyan"}))
        dots = "dots" if (stdout.encoding or "").lower().startswith("utf") else "line"
        self._spinner = Spinner(dots, style="cyan")
        self._growing = Growing(self._spinner)
        self._live: Live | None = None
        self._due = 0.0

    def note(self, text: str, style: str = "dim") -> None:
        from rich.text import Text

        self.console.print(Text(printable(text), style=style))

    def past(self, lines: Sequence[Frame], bot: str) -> None:
        """Show lines of an earlier conversation, one row each."""
        from rich.text import Text

        for line in lines:
            who = bot if line["bot"] else "You"
            row = Text(f"{who}: {' '.join(printable(line['text']).split())}", style="dim")
            self.console.print(row, no_wrap=True, overflow="ellipsis")

    def message(self, frame: Frame) -> None:
        """Show a finished message and its buttons."""
        self.console.print(markdown(frame["text"]))
        for number, button in enumerate(frame["buttons"], 1):
            self.note(f"  {number}. {button['text']} {button['url']}".rstrip(), "cyan")
        self.console.print()

    def begin(self) -> None:
        """Show that an answer is awaited."""
        from rich.live import Live

        self.grow("", "")
        self._spinner.text = ""  # an empty label would leave the last one
        self._live = Live(self._growing, console=self.console, auto_refresh=False, transient=True)
        self._live.start()

    def grow(self, text: str, label: str) -> None:
        self._growing.text = printable(text)
        self._spinner.update(text=label)

    def tick(self) -> None:
        """Redraw when it is time; the longer drawing takes, the rarer it is done."""
        now = time.monotonic()
        if self._live is not None and now >= self._due:
            self._live.refresh()
            spent = time.monotonic() - now
            self._due = now + max(FRAME_SECONDS, 5 * spent)

    def end(self) -> None:
        """Take the growing answer away; what is shown next stands in its place."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def above(self, show: Callable[[], None]) -> None:
        """Show something for good in the place of the growing answer, which begins again below it."""
        self.end()
        show()
        self.begin()

    def over_prompt(self, typed: str, show: Callable[[], None]) -> None:
        """Show something above the prompt, then the prompt again with what was typed there."""
        from rich.cells import cell_len

        rows = sum(cell_len(row) // self.console.width for row in (PROMPT + typed).split("\n"))
        up = rows + typed.count("\n")
        self.console.file.write(f"\r\x1b[{up}A\x1b[J" if up else "\r\x1b[J")
        show()
        self.console.file.write(PROMPT + typed)
        self.console.file.flush()


def markdown(text: str) -> Markdown:
    """Markdown as chats read it: a line break in the text is one on the screen, and no text is hidden.

    So there is no raw HTML and no link definition, and addresses are written out.
    """
    from markdown_it import MarkdownIt
    from rich.markdown import Markdown

    parser = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"]).disable("reference")
    made = Markdown("", code_theme="ansi_dark", justify="default", hyperlinks=False)
    made.parsed = parser.parse(printable(text))
    for token in made.parsed:
        if token.tag == "h1":
            token.tag = "h2"  # the first level would be centred
        if token.children:
            token.children = [_visible(one) for one in token.children if one.markup != "autolink"]
    return made


def _visible(token: Token) -> Token:
    """Make breaks hard, and an image its words and its address."""
    if token.type == "softbreak":
        token.type = "hardbreak"
    elif token.type == "image":
        token.type, token.children = "text", None
        token.content = f"{token.content} ({token.attrs['src']})".lstrip()
    return token


def printable(text: str) -> str:
    """Text without the control characters with which it could steer a terminal; lines and tabs stay."""
    return CONTROLS.sub("", text)
