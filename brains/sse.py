"""Server-sent events, as far as answers come in them (WHATWG HTML, section 9.2.6)."""

from __future__ import annotations

import re

LINE_END = re.compile(rb"\r\n|\n|\r")
MAX_EVENT = 4 * 1024 * 1024


class Events:
    """Reads the data of events out of bytes that arrive in any pieces.

    Only `data` fields matter here; comments, other fields and lines that are none are passed over. A last event
    without its empty line still counts, because some servers close right after `[DONE]`.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[str]:
        """The data of every event that is complete now. Raises ValueError when one grows beyond 4 MiB."""
        buffer = self._rest + chunk
        # A carriage return at the end may be half of a line end.
        held = b"\r" if buffer.endswith(b"\r") else b""
        *lines, last = LINE_END.split(buffer[: len(buffer) - len(held)])
        self._rest = last + held
        if len(self._rest) + self._size > MAX_EVENT:
            raise ValueError(f"An event has more than {MAX_EVENT} bytes.")
        return [data for line in lines if (data := self._line(line)) is not None]

    def end(self) -> list[str]:
        """The data of the event that the end of the stream cut short, if there is one."""
        lines = [*LINE_END.split(self._rest), b""]
        self._rest = b""
        return [data for line in lines if (data := self._line(line)) is not None]

    def _line(self, line: bytes) -> str | None:
        if line:
            name, _, value = line.removeprefix(b"\xef\xbb\xbf").partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" ").decode(errors="replace"))
                self._size += len(value)
            return None
        data, self._data, self._size = self._data, [], 0
        return "\n".join(data) if data else None
