"""The engines that come with Roost, each imported only when it is chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from roost.hookspecs import hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def register_brains(register: Callable[..., None]) -> None:
    register("auto", "roost.brains.auto:Auto")
    register("llamacpp", "roost.brains.llamacpp:LlamaCpp")
    register("openai", "roost.brains.openai:OpenAI")
    register("ctransformers", "roost.brains.ctransformers:CTransformers")
    register("onnx", "roost.brains.onnx:Onnx")
    register("echo", "roost.brains.echo:Echo")


@hookimpl
def register_hearings(register: Callable[..., None]) -> None:
    register("openai", "roost.brains.hearing:Server")


@hookimpl
def register_cli(cli: click.Group) -> None:
    from roost.brains.commandline import model
    from roost.brains.engine import command
    from roost.brains.evaluate import evaluate
    from roost.brains.quantize import quantize

    model.add_command(evaluate)
    model.add_command(quantize)
    cli.add_command(model)
    cli.add_command(command)
