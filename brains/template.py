"""How a conversation becomes the one text that a model continues: by the model's own template, or a plain form.

A template comes with a model, from anywhere, and is a program (Jinja). It is run in a sandbox in a process of its own,
which has no keys and no model, little memory, and little time.
https://huggingface.co/docs/transformers/chat_templating
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from roost.errors import BrainError, ConfigError, ModelError

SECONDS = 5.0
START = 60.0  # seconds for the process to begin, which on a busy machine says nothing about a template
MEMORY = 512 << 20
# A template may write its own words around a conversation, not a thousand times the conversation.
LONGEST = 1 << 20
LARGEST_TEMPLATE = 1 << 18

READY, MISSING = "ready", "missing"
Message = dict[str, str]
PLAIN_STOPS = ("\nUser:", "\nAssistant:")


class Refused(Exception):
    """The template itself says that it cannot write such a conversation."""


class Template:
    """Writes conversations as a model was taught to read them. `words` are variables of the template: bos_token.

    Without a `source`: the system text, an empty line, and each turn on lines that begin with "User: " or
    "Assistant: ". Such an answer ends where a next turn begins.
    """

    def __init__(self, source: str = "", words: dict[str, str] | None = None) -> None:
        if len(source) > LARGEST_TEMPLATE:
            raise ModelError(f"The model's chat template has {len(source)} characters, which no sound one has.")
        self.source = source
        self.words = words or {}
        self._process: subprocess.Popen[bytes] | None = None

    def render(self, messages: Sequence[Message]) -> tuple[str, tuple[str, ...]]:
        """The prompt, and where its answer has to end. Raises BrainError."""
        messages = [spoken(one) for one in messages]
        if not self.source:
            return plain(messages), PLAIN_STOPS
        try:
            return self._ask(messages), ()
        except Refused as refused:
            simple = simpler(messages)
            if simple == messages:
                raise wrong(refused) from None
        try:
            return self._ask(simple), ()
        except Refused as refused:
            raise wrong(refused) from None

    def close(self) -> None:
        """End the process that it runs in."""
        process, self._process = self._process, None
        if process:
            with process:
                process.kill()

    def _ask(self, messages: Sequence[Message]) -> str:
        """Have the process render; it is ended, and a new one started the next time, when that takes too long."""
        line = {"source": self.source, "variables": {**self.words, "messages": messages}}
        raw = exchanged(self._running(), SECONDS, json.dumps(line).encode() + b"\n")
        try:
            answer = json.loads(raw)
        except ValueError:
            self.close()
            raise BrainError(
                f"The model's chat template needs more than {SECONDS:g} seconds or {MEMORY >> 20} MB, so it was "
                "stopped. Use another file of this model."
            ) from None
        if "refused" in answer:
            raise Refused(answer["refused"])
        return str(answer["text"])

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "roost.brains.template"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={name: value for name, value in os.environ.items() if not name.startswith("ROOST_")},
            )
            self._greet(exchanged(self._process, START))
        return self._process

    def _greet(self, raw: bytes) -> None:
        """Hear what a new process says first. Raises BrainError."""
        said = raw.decode().strip()
        if said == READY:
            return
        self.close()
        if said == MISSING:
            raise ConfigError("This engine needs the package 'jinja2'. Install it with the engine's extra of roost.")
        raise BrainError("The process that writes conversations by the model's chat template did not start. Ask again.")


def exchanged(process: subprocess.Popen[bytes], within: float, line: bytes = b"") -> bytes:
    """What the process says to a line; nothing when it takes more seconds than that, and is ended."""
    assert process.stdin is not None and process.stdout is not None
    watch = threading.Timer(within, process.kill)
    watch.start()
    try:
        with suppress(OSError):
            process.stdin.write(line)
            process.stdin.flush()
        return process.stdout.readline(8 * LONGEST)
    finally:
        watch.cancel()


def wrong(refused: Refused) -> BrainError:
    return BrainError(f"The model's chat template cannot write this conversation: {refused}.")


def spoken(message: Message) -> Message:
    """What a tool gave, told by the user: these engines call no tools, but a conversation may have some in it."""
    if message["role"] != "tool":
        return message
    return {"role": "user", "content": f"A tool answered: {message['content']}"}


def simpler(messages: Sequence[Message]) -> list[Message]:
    """The same with user and assistant taking turns, and the system's text told by the user: many templates insist."""
    simple: list[Message] = []
    for message in messages:
        role = "user" if message["role"] == "system" else message["role"]
        if simple and simple[-1]["role"] == role:
            simple[-1] = {"role": role, "content": f"{simple[-1]['content']}\n\n{message['content']}"}
        else:
            simple.append({"role": role, "content": message["content"]})
    return simple


def plain(messages: Sequence[Message]) -> str:
    """The form for models without a template."""
    names = {"user": "User: ", "assistant": "Assistant: "}
    system = [one["content"] for one in messages if one["role"] == "system"]
    turns = [names[one["role"]] + one["content"] for one in messages if one["role"] in names]
    return "\n".join([*(f"{text}\n" for text in system), *turns, "Assistant:"])


def main() -> None:
    """Render what comes on standard input, a line each, until it ends."""
    out = sys.stdout
    sys.stdout = sys.stderr
    try:
        import jinja2.sandbox
    except ImportError:
        out.write(f"{MISSING}\n")
        return
    out.write(f"{READY}\n")
    out.flush()
    environment = sandboxed(jinja2.sandbox.ImmutableSandboxedEnvironment)
    for line in sys.stdin:
        limit()
        try:
            answer = {"text": rendered(environment, json.loads(line))}
        except MemoryError:
            return
        except Exception as error:
            answer = {"refused": f"{error}"[:300].rstrip(".") or type(error).__name__}
        out.write(json.dumps(answer) + "\n")
        out.flush()


def sandboxed(kind: Any) -> Any:
    """An environment as model templates expect it: the names and the white space of Transformers."""
    environment = kind(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: __import__("time").strftime(str(form)[:100])
    return environment


def rendered(environment: Any, line: dict[str, Any]) -> str:
    template = environment.from_string(line["source"])
    text = str(template.render(**line["variables"], add_generation_prompt=True, tools=None))
    if len(text) > LONGEST:
        raise ValueError(f"it makes {len(text)} characters of it")
    return text


def refuse(message: str) -> None:
    raise Refused(message)


def limit() -> None:
    """Allow the next conversation its seconds and this process its memory, where the system can."""
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    allowed = int(used.ru_utime + used.ru_stime + SECONDS) + 1
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (allowed, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


if __name__ == "__main__":
    main()
