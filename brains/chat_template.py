"""Chat templates: read from a model's file, taught tools where they know none, and tried before they are trusted.

A template is a program in Jinja that comes with a model. The engine runs it for every prompt, without any limit.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from roost.brains.gguf import Header, Reader
from roost.brains.trial import model
from roost.errors import ModelError

TEMPLATE = "tokenizer.chat_template"
LONGEST = 1 << 20
# Seconds for all that the engine tries of a template when it starts, which takes a tenth of one.
PATIENCE = 20.0
ENDLESS = "does not come to an end"
SAID = {0: "", 1: "is not one that the engine can read"}
if hasattr(signal, "SIGXCPU"):
    SAID[-signal.SIGXCPU] = SAID[-signal.SIGKILL] = ENDLESS
REACHES_FOR_TOOLS = re.compile(r"\btools\b")
# Put before a template that knows no tools, this turns them, calls and results into ordinary messages, in the words
# that Hermes models learned: https://github.com/NousResearch/Hermes-Function-Calling. The engine finds out from what
# comes of it how calls look. A prompt without tools stays as it was to the byte.
TOOLS = r"""
{%- set roost = namespace(said=[], intro='', open='', needed=false) -%}
{%- if tools -%}{%- set roost.needed = true -%}{%- endif -%}
{%- for message in messages -%}
{%- if message.role == 'tool' or message.tool_calls -%}{%- set roost.needed = true -%}{%- endif -%}
{%- endfor -%}
{%- if roost.needed -%}
{%- if tools -%}
{%- set roost.intro = 'You may call these functions:\n<tools>' -%}
{%- for tool in tools -%}{%- set roost.intro = roost.intro + '\n' + (tool | tojson) -%}{%- endfor -%}
{%- set roost.intro = roost.intro + '\n</tools>\nTo call one, answer with its name and arguments as JSON:\n' -%}
{%- set roost.intro = roost.intro + '<tool_call>\n{"name": "function-name", "arguments": {}}\n</tool_call>' -%}
{%- endif -%}
{%- for message in messages -%}
{%- set text = message.content if message.content is string else '' -%}
{%- if message.role == 'tool' -%}
{%- set roost.open = roost.open + ('\n' if roost.open else '') -%}
{%- set roost.open = roost.open + '<tool_response>\n' + text + '\n</tool_response>' -%}
{%- else -%}
{%- if roost.open -%}
{%- set roost.said = roost.said + [{'role': 'user', 'content': roost.open}] -%}{%- set roost.open = '' -%}
{%- endif -%}
{%- if message.tool_calls -%}
{%- set calls = namespace(text=text) -%}
{%- for call in message.tool_calls -%}
{%- set call = call.function if call.function else call -%}
{%- set given = call.arguments if call.arguments is string else call.arguments | tojson -%}
{%- set calls.text = calls.text + ('\n' if calls.text else '') + '<tool_call>\n{"name": "' + call.name -%}
{%- set calls.text = calls.text + '", "arguments": ' + given + '}\n</tool_call>' -%}
{%- endfor -%}
{%- set roost.said = roost.said + [{'role': 'assistant', 'content': calls.text}] -%}
{%- elif roost.intro and message.role == 'system' -%}
{%- set roost.said = roost.said + [{'role': 'system', 'content': text + '\n\n' + roost.intro}] -%}
{%- set roost.intro = '' -%}
{%- elif roost.intro and message.role == 'user' -%}
{%- set roost.said = roost.said + [{'role': 'user', 'content': roost.intro + '\n\n' + text}] -%}
{%- set roost.intro = '' -%}
{%- else -%}
{%- set roost.said = roost.said + [message] -%}
{%- endif -%}
{%- endif -%}
{%- endfor -%}
{%- if roost.open -%}{%- set roost.said = roost.said + [{'role': 'user', 'content': roost.open}] -%}{%- endif -%}
{%- set messages = roost.said -%}
{%- endif -%}
""".strip()


@dataclass(frozen=True, slots=True)
class Traits:
    """What of a model's file decides how it is served. `pooling` says that it was made for embeddings."""

    template: str = ""
    pooling: bool = False


class LongTexts(Reader):
    """Keeps texts whole where its base keeps their beginnings: a template may have 30,000 characters."""

    def _beginning(self) -> bytes:
        length = self._number("Q")
        self._need(length)
        if length > LONGEST:
            raise self._wrong(f"has a text of {length} bytes among its keys")
        return self.file.read(length)


def read_traits(path: Path) -> Traits:
    """Raises ModelError."""
    try:
        with path.open("rb") as file:
            header = LongTexts(path, file).read()
    except OSError as error:
        raise ModelError(f"The model file '{path}' cannot be read: {error}.") from error
    return Traits(str(header.keys.get(TEMPLATE, "")), pooled(header))


def pooled(header: Header) -> bool:
    """Whether a model says how its embeddings are made; 0 stands for not at all."""
    return bool(header.keys.get(f"{header.keys.get('general.architecture')}.pooling_type"))


def knows_tools(template: str) -> bool:
    """Whether a template can show tools to its model: it cannot without reaching for them by name."""
    return REACHES_FOR_TOOLS.search(template) is not None


def with_tools(template: str) -> str:
    """The template, taught tools if it knows none; empty if there is none."""
    return template if not template or knows_tools(template) else TOOLS + template


def fault(template: str) -> str:
    """What is wrong with a template, as a sentence; empty if nothing is. Takes as long as PATIENCE.

    It is run in a process of its own, with limits for time and memory, with a model of 70 KB that knows nothing.
    """
    if not template:
        return ""
    with tempfile.TemporaryDirectory(prefix="roost-trial-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "trial.gguf"
        path.write_bytes(model(template))
        try:
            trial = subprocess.run(
                [sys.executable, "-m", "roost.brains.trial", str(path)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return ENDLESS
    return SAID.get(trial.returncode, "makes the engine crash")
