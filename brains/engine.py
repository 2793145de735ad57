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

from roost.brains.gguf import Header
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
    watch_stdin: bool = False


def serve(options: EngineOptions) -> None:
    """Serve until told to stop. Raises ModelError or ConfigError before anything is served."""
    key = os.environ.pop(KEY, "")
    shape = read_shape(options.model_path)
    if options.watch_stdin:
        threading.Thread(target=end_with_parent, daemon=True).start()
    # Threads that wait for each other must sleep, not spin. With one other busy program on two cores, spinning made
    # 0.6 tokens a second where sleeping made 40 (100 and 60 on an idle machine, SmolLM2 135M). libgomp reads
    # this when it is loaded, so it is set before the engine is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    give_way()
    server = start(options, shape, key)
    print(json.dumps({"address": server.listening_address}), flush=True)
    wait()
    # The engine's destructors wait for answers in progress, and on some graphics drivers they crash.
    os._exit(0)


def start(options: EngineOptions, shape: Shape, key: str) -> Any:
    """llama.cpp's server, ready. Raises ModelError or ConfigError."""
    if not key and options.host not in {"127.0.0.1", "localhost", "::1"}:
        raise ConfigError(f"Serving on '{options.host}' lets others in: set a key in the environment as {KEY}.")
    try:
        import xllamacpp
    except ImportError as error:
        raise ConfigError(
            f"The engine for local models cannot be loaded here: {error}. Use an OpenAI-compatible server instead: "
            '[brain] use = "openai" with its base_url.'
        ) from error
    try:
        return xllamacpp.Server(parameters(xllamacpp, options, planned(xllamacpp, options, shape), key))
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"The engine cannot load '{options.model_path}': {error}.") from error


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


def parameters(xllamacpp: Any, options: EngineOptions, plan: Plan, key: str) -> Any:
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
    # On a card the engine finds out by trial how many layers fit, unless it is told. Without one, there is no need to.
    wanted.n_gpu_layers = options.gpu_layers if plan.device == "gpu" else 0
    wanted.fit_params = plan.device == "gpu"
    wanted.cpuparams.n_threads, wanted.cpuparams_batch.n_threads = plan.writing, plan.threads
    # The same for builds with the engine's own threads.
    wanted.cpuparams.poll = wanted.cpuparams_batch.poll = 0
    return wanted


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
@click.option("--port", default=8080, show_default=True, help="The port; 0 lets the system choose.")
@click.option("--device", type=click.Choice(["auto", "cpu", "gpu"]), default="auto", show_default=True)
@click.option("--context", default=4096, show_default=True, help="Tokens a prompt and its answer may have.")
@click.option("--slots", default=2, show_default=True, help="Answers made at the same time.")
@click.option("--threads", default=0, help="Processor threads; 0 takes one for each core.")
@click.option("--cache-ram", default=256, show_default=True, help="MiB for the beginnings of conversations.")
@click.option("--kv-type", type=click.Choice(["auto", "f16", "q8_0"]), default="auto", help="Type of the KV cache.")
@click.option("--gpu-layers", default=-1, help="Layers on a graphics card; -1 takes as many as fit.")
@click.option("--memory", default="", help="Plan for so much memory, such as 8G, instead of what is here.")
@click.option("--watch-stdin", is_flag=True, help="Stop when standard input ends.")
def command(**options: Any) -> None:
    """Serve a model with the OpenAI-compatible API. A key is taken from ROOST_ENGINE_KEY."""
    serve(EngineOptions(**options))


def main() -> None:
    try:
        command(standalone_mode=False)
    except (RoostError, click.ClickException) as error:
        print(error, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
