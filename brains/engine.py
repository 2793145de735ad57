"""The engine process: llama.cpp's own server, alone in a process so that nothing it does stops the bot.

`python -m roost.brains.engine --model-path FILE --port 0 --watch-stdin` prints one line of JSON with its address
when it is ready. Its key comes from ROOST_ENGINE_KEY: a command line can be read by everybody on the machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from roost.brains.chat_template import Traits, fault, read_traits, with_tools
from roost.brains.gguf import Header, verify_gguf
from roost.brains.machine import Build, Machine, compiled, read_machine, usable
from roost.brains.plan import Kept, Plan, Wish, make
from roost.brains.shape import Shape
from roost.brains.survey import read_shape
from roost.errors import ConfigError, ModelError, RoostError
from roost.gauges import MIB, size

KEY = "ROOST_ENGINE_KEY"
# What an answer costs the bot beside it is latency, so thinking gives way.
NICENESS = 5
QUIET = 2  # warnings and errors
PLAIN = Traits()
GUESSES = ("none", "ngram-simple", "ngram-mod", "ngram-map-k")


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How to serve a model. `context` is tokens for each slot; `cache_ram` is MiB; 0 threads means one a core.

    What is left at its default is chosen by `plan`, for the memory of this machine or for that of `memory`: "8G".
    """

    model_path: Path
    host: str = "127.0.0.1"
    port: int = 8080
    device: Literal["auto", "cpu", "gpu"] = "auto"
    context: int = 4096
    slots: int = 2
    threads: int = 0
    cache_ram: int = 256
    kv_type: Literal["auto", "f16", "q8_0"] = "auto"
    gpu_layers: int = -1
    memory: str = ""
    projector: Path | None = None
    slot_folder: Path | None = None
    speculate: str = "none"
    watch_stdin: bool = False


class Trial(threading.Thread):
    """Tries a chat template while other things are looked at. The engine itself would hang in one without an end,
    and with it every thread of its process."""

    def __init__(self, template: str) -> None:
        super().__init__(daemon=True)
        self.template = template
        self.why = ""
        self.start()

    def run(self) -> None:
        self.why = fault(self.template)

    def outcome(self) -> str:
        """What is wrong with the template; empty if nothing is."""
        self.join()
        return self.why


def serve(options: EngineOptions) -> None:
    """Serve until told to stop. Raises ModelError or ConfigError before anything is served."""
    key = os.environ.pop(KEY, "")
    traits = read_traits(options.model_path)
    trial = Trial(traits.template)
    shape = read_shape(options.model_path)
    if options.watch_stdin:
        threading.Thread(target=end_with_parent, daemon=True).start()
    # Threads that wait for each other must sleep, not spin. With one other busy program on two cores, spinning made
    # 0.6 tokens a second where sleeping made 40 (100 and 60 on an idle machine, SmolLM2 135M). libgomp reads
    # this when it is loaded, so it is set before the engine is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    give_way()
    xllamacpp = library(options, key)
    wanted = parameters(xllamacpp, options, planned(xllamacpp, options, shape), key, traits)
    if why := trial.outcome():
        raise ModelError(f"The chat template in '{options.model_path}' {why}. Use another file of this model.")
    server = started(xllamacpp, wanted)
    print(json.dumps({"address": server.listening_address}), flush=True)
    wait()
    # The engine's destructors wait for answers in progress, and on some graphics drivers they crash.
    os._exit(0)


def serve_parent(options: EngineOptions) -> None:
    """Serve for the process that started this one, which reads on standard output where, or why not."""
    try:
        serve(options)
    except RoostError as error:
        print(json.dumps({"failed": str(error)}), flush=True)
        sys.exit(1)


def library(options: EngineOptions, key: str) -> Any:
    """llama.cpp. Raises ConfigError."""
    if not key and options.host not in {"127.0.0.1", "localhost", "::1"}:
        raise ConfigError(f"Serving on '{options.host}' lets others in: set a key in the environment as {KEY}.")
    try:
        import xllamacpp
    except ImportError as error:
        raise ConfigError(
            f"The engine for local models cannot be loaded here: {error}. Use an OpenAI-compatible server instead: "
            '[brain] use = "openai" with its base_url.'
        ) from error
    return xllamacpp


def started(xllamacpp: Any, wanted: Any) -> Any:
    """llama.cpp's server, ready. Raises ModelError."""
    try:
        return xllamacpp.Server(wanted)
    except (RuntimeError, ValueError) as error:
        # The error says no more than that; why is among what the engine writes to the log.
        raise ModelError(f"It cannot load '{wanted.model.path}'. Use another file of this model.") from error


def planned(xllamacpp: Any, options: EngineOptions, shape: Shape) -> Plan:
    """How to run the model here. Raises ModelError where it cannot be, ConfigError where its card is missing."""
    build = Build(compiled(xllamacpp.get_system_info()), usable(xllamacpp.get_device_info()))
    if options.device == "gpu" and not build.cards:
        raise ConfigError(
            "[brain] device = \"gpu\", but the engine sees no graphics card it can use here. Set it to 'auto', or "
            "install a build of xllamacpp for your card."
        )
    machine = read_machine()
    if options.memory:
        machine = Machine(machine.cores, machine.threads, memory=size(options.memory))
    kept: Kept | None = None if options.kv_type == "auto" else options.kv_type
    wish = Wish(options.context, options.slots, options.threads, options.cache_ram * MIB, kept, options.device)
    plan = make(shape, machine, build, wish)
    if plan.least > plan.memory:
        from roost.brains.choice import refusal

        if why := refusal(shape, machine, build, wish):
            raise ModelError(why)
    return plan


def parameters(xllamacpp: Any, options: EngineOptions, plan: Plan, key: str, traits: Traits = PLAIN) -> Any:
    wanted = xllamacpp.CommonParams()
    wanted.model.path = str(options.model_path)
    wanted.model_alias = {options.model_path.stem}
    wanted.hostnames, wanted.port = [options.host], options.port
    wanted.api_keys = [key] if key else []
    # Without a key, a page in the owner's browser must not be able to use the engine.
    wanted.cors_origins, wanted.ui, wanted.verbosity = "http://127.0.0.1", False, QUIET
    # Each slot has its own context. A shared one fails both answers when they outgrow it together, and a
    # conversation that comes back from the cache does not fit beside the one that is in the way.
    wanted.n_ctx = plan.context * plan.slots
    wanted.n_parallel, wanted.kv_unified = plan.slots, False
    wanted.cache_type_k = wanted.cache_type_v = xllamacpp.ggml_type[f"GGML_TYPE_{plan.kept.upper()}"]
    wanted.cache_ram_mib = plan.prompts // MIB
    wanted.n_batch = wanted.n_ubatch = plan.batch
    wanted.chat_template = with_tools(traits.template)
    wanted.endpoint_metrics = True
    if options.projector is not None:
        verify_gguf(options.projector)
        wanted.mmproj.path = str(options.projector)
    if options.slot_folder is not None:
        wanted.slot_save_path = f"{options.slot_folder}{os.sep}"
    embed(xllamacpp, wanted, plan, traits)
    speculate(xllamacpp, wanted, options.speculate)
    # On a card the engine finds out by trial how many layers fit, unless it is told. Without one, there is no need to.
    wanted.n_gpu_layers = options.gpu_layers if plan.device == "gpu" else 0
    wanted.fit_params = plan.device == "gpu"
    wanted.cpuparams.n_threads, wanted.cpuparams_batch.n_threads = plan.writing, plan.threads
    # The same for builds with the engine's own threads.
    wanted.cpuparams.poll = wanted.cpuparams_batch.poll = 0
    return wanted


def embed(xllamacpp: Any, wanted: Any, plan: Plan, traits: Traits) -> None:
    """Offer embeddings beside chat, which costs a chat nothing. A model that is made for them says how they come
    about and sees a text at once. Of any other it is what stands at the last token: of 60 sentences that finds 47 among
    the first five by a paraphrase, the mean over all tokens 26, and that only of texts no longer than a batch."""
    wanted.embedding = True
    if traits.pooling:
        wanted.n_batch = wanted.n_ubatch = max(plan.batch, plan.context)
    else:
        wanted.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_LAST


def speculate(xllamacpp: Any, wanted: Any, kind: str) -> None:
    """Guess words from those said before. Not done unless asked for: it wrote a chat at 0.94 times the speed, edited
    code at 1.18, a text taken over word by word at 1.8, and took as much processor time as without."""
    name = f"COMMON_SPECULATIVE_TYPE_{kind.upper().replace('-', '_')}"
    wanted.speculative.types = [xllamacpp.common_speculative_type[name]]
    # Eight words are guessed after eight that were said before; with the usual 48, a wrong guess halves the speed.
    wanted.speculative.ngram_simple.size_n = wanted.speculative.ngram_simple.size_m = 8


def slot_context(wanted: int, header: Header) -> int:
    """No more than the model was made for."""
    made_for = header.keys.get(f"{header.keys.get('general.architecture')}.context_length")
    return min(wanted, made_for) if isinstance(made_for, int) and made_for > 0 else wanted


def give_way() -> None:
    if hasattr(os, "nice"):
        os.nice(NICENESS)


def end_with_parent() -> None:
    """Leave when standard input ends, which happens however the parent dies, on every system."""
    while os.read(0, 4096):
        pass
    os._exit(0)


def wait() -> None:
    """Sleep until Ctrl-C. On Windows that interrupts a sleep, but not the waiting for an event."""
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)


@click.command("serve-model")
@click.option("--model-path", type=click.Path(path_type=Path), required=True, help="The .gguf file.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="The port; 0 lets the system choose."
)
@click.option("--device", type=click.Choice(["auto", "cpu", "gpu"]), default="auto", show_default=True)
@click.option(
    "--context",
    type=click.IntRange(1),
    default=4096,
    show_default=True,
    help="Tokens a prompt and its answer may have.",
)
@click.option("--slots", type=click.IntRange(1), default=2, show_default=True, help="Answers made at the same time.")
@click.option("--threads", type=click.IntRange(0), default=0, help="Processor threads; 0 takes one for each core.")
@click.option(
    "--cache-ram",
    type=click.IntRange(0),
    default=256,
    show_default=True,
    help="MiB for the beginnings of conversations.",
)
@click.option("--kv-type", type=click.Choice(["auto", "f16", "q8_0"]), default="auto", help="Type of the KV cache.")
@click.option(
    "--gpu-layers", type=click.IntRange(-1), default=-1, help="Layers on a graphics card; -1 takes as many as fit."
)
@click.option("--memory", default="", help="Plan for so much memory, such as 8G, instead of what is here.")
@click.option("--projector", type=click.Path(path_type=Path), help="The file by which a model sees (mmproj).")
@click.option("--slot-folder", type=click.Path(path_type=Path, file_okay=False), hidden=True)
@click.option("--speculate", type=click.Choice(GUESSES), default="none", help="Guess words from those said before.")
@click.option("--key-file", type=click.Path(path_type=Path), help="A file of keys that let in, one a line.")
@click.option(
    "--grace",
    type=click.FloatRange(0),
    default=10.0,
    show_default=True,
    help="Seconds that answers get to finish when it stops.",
)
@click.option("--watch-stdin", is_flag=True, hidden=True, help="Be the engine alone, and stop when its input ends.")
def command(key_file: Path | None, grace: float, **options: Any) -> None:
    """Serve a model with the OpenAI-compatible API.

    Keys are taken from ROOST_ENGINE_KEY, divided by commas, and from a file. On SIGTERM or Ctrl-C no new question is
    taken, and answers in progress are finished.
    """
    if options["watch_stdin"]:
        serve_parent(EngineOptions(**options))
        return
    from roost.brains.face import Service
    from roost.brains.serving import run

    path, host, port = options["model_path"], options.pop("host"), options.pop("port")
    read_traits(path)  # what is no model is said at once
    most, context = slot_context(options["context"], verify_gguf(path)), options["context"]
    if most < context:
        click.echo(f"'{path.name}' was made for {most:,} tokens, so a context has as many, not {context:,}.", err=True)
    arguments = [part for name, value in options.items() if value is not None for part in flag(name, value)]
    run(Service(tuple(arguments), path.stem, host, port, os.environ.pop(KEY, ""), key_file, grace))


def flag(name: str, value: Any) -> list[str]:
    """An option as an argument of the engine's own command line."""
    return [] if name == "watch_stdin" else [f"--{name.replace('_', '-')}", str(value)]


def main() -> None:
    try:
        command(standalone_mode=False)
    except (RoostError, click.ClickException) as error:
        print(error, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
