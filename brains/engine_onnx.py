"""The process that ONNX Runtime GenAI thinks in: `python -m roost.brains.engine_onnx OPTIONS`."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from roost.brains.cores import physical
from roost.brains.onnx import look
from roost.brains.template import Template
from roost.brains.thinking import Engine, Line, serve
from roost.errors import ConfigError, ModelError

LARGEST_FILE = 1 << 26
# A model that was not asked for a card runs where its folder says; these are the cards there are builds for.
CARDS = {"cuda": "is_cuda_available", "dml": "is_dml_available", "webgpu": "is_webgpu_available"}


@dataclass(slots=True)
class Memory:
    """What was read and written of one conversation, with the keys and values of it in `generator`."""

    generator: Any
    temperature: float
    tokens: list[int] = field(default_factory=list)


def make(options: Line) -> OnnxEngine:
    """The engine for a folder. Raises ModelError or ConfigError."""
    folder = Path(options["model"])
    made_for = look(folder)["model"].get("context_length")
    try:
        import onnxruntime_genai
    except ImportError as error:
        raise ConfigError(
            f"The engine onnx cannot be loaded: {error}. Install it, in the checkout: "
            '.venv/bin/pip install -e ".[onnx]"'
        ) from error
    # What people say to the bot is nobody's business, and neither is how much.
    onnxruntime_genai.disable_telemetry_events()
    context = min(options["context"], made_for) if isinstance(made_for, int) else options["context"]
    config = configured(onnxruntime_genai, folder, options)
    try:
        model = onnxruntime_genai.Model(config)
        return OnnxEngine(onnxruntime_genai, model, folder, context, options["slots"])
    except (RuntimeError, ValueError, OSError) as error:
        raise ModelError(f"The engine onnx cannot load '{folder}': {str(error).strip()[:500]}.") from error


def configured(genai: Any, folder: Path, options: Line) -> Any:
    """The folder's settings, with the device and the threads that are wanted. Raises ConfigError or ModelError."""
    try:
        config = genai.Config(str(folder))
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"The settings of the model '{folder}' cannot be used: {str(error).strip()[:500]}.") from error
    if options["device"] != "auto":
        config.clear_providers()
    if options["device"] == "gpu":
        cards = [name for name, asks in CARDS.items() if getattr(genai, asks)()]
        if not cards:
            raise ConfigError(
                '[brain] device = "gpu", but this build of onnxruntime-genai can use no graphics card. Set it to '
                "'auto', or install onnxruntime-genai-cuda, or onnxruntime-genai-directml on Windows."
            )
        config.append_provider(cards[0])
    # Threads that wait for each other must sleep, not spin: the bot needs the cores too.
    session = {"intra_op_num_threads": options["threads"] or physical(), "session.intra_op.allow_spinning": "0"}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
    return config


class OnnxEngine(Engine):
    """One model. The conversations it read last can go on without being read again, as many as there are `slots`."""

    def __init__(self, genai: Any, model: Any, folder: Path, context: int, slots: int) -> None:
        self.genai = genai
        self.model = model
        self.tokenizer = genai.Tokenizer(model)
        self.context = context
        self.slots = slots
        self.ends = {int(one) for one in self.tokenizer.eos_token_ids}
        words = loaded(folder / "tokenizer_config.json")
        self.template = Template(source(folder, words), named(words))
        self.controls = [
            str(one["content"]) for one in loaded(folder / "tokenizer.json").get("added_tokens", ()) if one["special"]
        ]
        self._memories: OrderedDict[str, Memory] = OrderedDict()
        self._now = Memory(None, 0.0)
        self._stream: Any = None

    def encode(self, text: str) -> list[int]:
        tokens = [int(one) for one in self.tokenizer.encode(text)]
        # Templates write the token that begins a text, and so do tokenizers.
        begin = int(self.tokenizer.bos_token_id)
        return tokens[1:] if tokens[:2] == [begin, begin] else tokens

    def count(self, text: str) -> int:
        return len(self.tokenizer.encode(text)) if text else 0

    def open(self, conversation: str, tokens: Sequence[int], temperature: float, schema: str) -> int:
        self._stream = self.tokenizer.create_stream()
        if schema:
            self._now = Memory(self._generator(temperature, schema), temperature)
            return 0
        memory = self._memories.pop(conversation, None)
        known = rewound(memory, tokens) if memory and memory.temperature == temperature else 0
        if memory is None or not known:
            memory = Memory(self._generator(temperature), temperature)
        self._memories[conversation] = self._now = memory
        while len(self._memories) > self.slots:
            self._memories.popitem(last=False)
        return known

    def read(self, tokens: Sequence[int]) -> None:
        self._now.generator.append_tokens(list(tokens))
        self._now.tokens += tokens

    def write(self) -> str | None:
        generator = self._now.generator
        if generator.is_done():
            return None
        generator.generate_next_token()
        token = int(generator.get_next_tokens()[0])
        if token in self.ends:
            return None
        self._now.tokens.append(token)
        return str(self._stream.decode(token))

    def shrink(self) -> None:
        self._memories.clear()
        self._now = Memory(None, 0.0)

    def _generator(self, temperature: float, schema: str = "") -> Any:
        params = self.genai.GeneratorParams(self.model)
        chance = {"do_sample": True, "temperature": temperature, "top_k": 40, "top_p": 0.95} if temperature else {}
        params.set_search_options(**{"do_sample": False, "max_length": self.context, **chance})
        if schema:
            params.set_guidance("json_schema", schema, False)  # one token at a time, none put in unseen
        return self.genai.Generator(self.model, params)


def rewound(memory: Memory, tokens: Sequence[int]) -> int:
    """Go back to where a prompt begins to differ from what is remembered; 0 where that cannot be."""
    # Of the last token that was written no keys and values were made, and it goes back by one more at least.
    pairs = zip(memory.tokens[:-2], tokens[:-1], strict=False)
    known = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    try:
        memory.generator.rewind_to(known)
    except RuntimeError:  # some architectures cannot go back
        return 0
    del memory.tokens[known:]
    return known


def loaded(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError), path.open(encoding="utf-8") as file:
        values = json.loads(file.read(LARGEST_FILE))
        if isinstance(values, dict):
            return values
    return {}


def source(folder: Path, words: dict[str, Any]) -> str:
    """The chat template: a file of its own in newer folders, else in the tokenizer's settings, maybe one of several."""
    with suppress(OSError):
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    given = words.get("chat_template") or ""
    if isinstance(given, list):
        given = {one.get("name"): one.get("template") for one in given if isinstance(one, dict)}.get("default") or ""
    return str(given)


def named(words: dict[str, Any]) -> dict[str, str]:
    """The tokens that a template may name."""
    found = {name: words.get(name) for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
    return {name: str(value["content"] if isinstance(value, dict) else value) for name, value in found.items() if value}


if __name__ == "__main__":
    serve(make)
