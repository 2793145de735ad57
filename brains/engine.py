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

from roost.brains.cores import physical
from roost.brains.gguf import Header, verify_gguf
from roost.errors import ConfigError, ModelError, RoostError

KEY = "ROOST_ENGINE_KEY"
# What an answer costs the bot beside it is latency, so thinking gives way.
NICENESS = 5
# A request that was cancelled stops between two batches: on a processor a small batch is as fast as a large
# one, and 128 tokens are over in half a second where 2048 would hold the slot for many.
BATCH = {"cpu": 128, "gpu": 512}
# Writing a token with a small model is so little work that threads wait for each other longer than they work:
# one alone writes 79 tokens a second where two write 45. Reading a prompt still takes them all.
SMALL = 256 * 1024 * 1024  # bytes
QUIET = 2  # warnings and errors


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How to serve a model. `context` is tokens for each slot; `cache_ram` is MiB; 0 threads means one a core."""

    model_path: Path
    host: str = "127.0.0.1"
    port: int = 8080
    device: Literal["auto", "cpu", "gpu"] = "auto"
    context: int = 4096
    slots: int = 2
    threads: int = 0
    cache_ram: int = 256
    watch_stdin: bool = False


def serve(options: EngineOptions) -> None:
    """Serve until told to stop. Raises ModelError or ConfigError before anything is served."""
    key = os.environ.pop(KEY, "")
    header = verify_gguf(options.model_path)
    if options.watch_stdin:
        threading.Thread(target=end_with_parent, daemon=True).start()
    # Threads that wait for each other must sleep, not spin. With one other busy program on two cores, spinning made
    # 0.6 tokens a second where sleeping made 40 (100 and 60 on an idle machine, SmolLM2 135M). libgomp reads
    # this when it is loaded, so it is set before the engine is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    give_way()
    server = start(options, header, key)
    print(json.dumps({"address": server.listening_address}), flush=True)
    wait()
    # The engine's destructors wait for answers in progress, and on some graphics drivers they crash.
    os._exit(0)


def start(options: EngineOptions, header: Header, key: str) -> Any:
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
        return xllamacpp.Server(parameters(xllamacpp, options, header, key))
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"The engine cannot load '{options.model_path}': {error}.") from error


def parameters(xllamacpp: Any, options: EngineOptions, header: Header, key: str) -> Any:
    chosen = device(xllamacpp, options.device)
    wanted = xllamacpp.CommonParams()
    wanted.model.path = str(options.model_path)
    wanted.model_alias = {options.model_path.stem}
    wanted.hostnames, wanted.port = [options.host], options.port
    wanted.api_keys = [key] if key else []
    # Without a key, a page in the owner's browser must not be able to use the engine.
    wanted.cors_origins, wanted.ui, wanted.verbosity = "http://127.0.0.1", False, QUIET
    # Each slot has its own context. A shared one fails both answers when they outgrow it together, and a
    # conversation that comes back from the cache does not fit beside the one that is in the way.
    wanted.n_ctx = slot_context(options.context, header) * options.slots
    wanted.n_parallel, wanted.kv_unified = options.slots, False
    wanted.cache_ram_mib = options.cache_ram
    wanted.n_batch = wanted.n_ubatch = max(BATCH[chosen], options.slots)
    wanted.n_gpu_layers = 0 if chosen == "cpu" else -1
    threads = options.threads or physical()
    if threads:
        wanted.cpuparams.n_threads = wanted.cpuparams_batch.n_threads = threads
    if not options.threads and options.model_path.stat().st_size < SMALL:
        wanted.cpuparams.n_threads = 1
    # The same for builds with the engine's own threads.
    wanted.cpuparams.poll = wanted.cpuparams_batch.poll = 0
    return wanted


def slot_context(wanted: int, header: Header) -> int:
    """No more than the model was made for."""
    made_for = header.keys.get(f"{header.keys.get('general.architecture')}.context_length")
    return min(wanted, made_for) if isinstance(made_for, int) and made_for > 0 else wanted


def device(xllamacpp: Any, wanted: str) -> str:
    """cpu or gpu. Raises ConfigError when a graphics card is demanded and the engine sees none."""
    cards = [one for one in xllamacpp.get_device_info() if "CPU" not in str(one["type"])]
    if wanted == "gpu" and not cards:
        raise ConfigError(
            "[brain] device = \"gpu\", but the engine sees no graphics card it can use here. Set it to 'auto', or "
            "install a build of xllamacpp for your card."
        )
    return "gpu" if cards and wanted != "cpu" else "cpu"


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
