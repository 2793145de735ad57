"""The `roost` command. What a command needs is imported when it runs, so that `roost --help` is instant."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from roost.cipher import Cipher
    from roost.config import Config
    from roost.registry import Registry
    from roost.wishes import Offer

config_option = click.option(
    "--config",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="ROOST_CONFIG",
    help="The configuration; ./bot.toml, or the one in the data folder, when absent.",
)


class Main(click.Group):
    """Knows the commands of installed plugins too, and prints our own errors as what they are: sentences."""

    _complete = False

    def main(self, *args: Any, **more: Any) -> Any:
        from roost import logs

        with logs.clean():
            return super().main(*args, **more)

    def _complete_it(self) -> None:
        if not self._complete:
            self._complete = True
            load_plugins(None).plugins.hook.register_cli(cli=self)

    def list_commands(self, ctx: click.Context) -> list[str]:
        self._complete_it()
        return super().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        if own is None:
            self._complete_it()
            own = super().get_command(ctx, cmd_name)
        return own

    def invoke(self, ctx: click.Context) -> Any:
        from roost.errors import RoostError

        try:
            return super().invoke(ctx)
        except RoostError as error:
            for line in str(error).splitlines():
                click.echo(line, err=True)
            ctx.exit(1)


@click.group(cls=Main, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="roost", message="roost %(version)s")
def main() -> None:
    """Your own assistant, on your own machine, reachable from every chat app you already use."""


@main.command()
@config_option
def run(path: Path | None) -> None:
    """Start the bot."""
    from roost.run import run_forever

    registry, config = prepare(path)
    sys.exit(run_forever(config, registry))


@main.command()
@config_option
def chat(path: Path | None) -> None:
    """Talk to the bot here. `echo hello | roost chat` prints the answer alone."""
    from roost.run import run_chat

    registry, config = prepare(path, log="error")
    sys.exit(run_chat(config, registry))


@main.command()
@config_option
@click.option("--security", is_flag=True, help="Look for what lets others in, or lets out what is private.")
def doctor(path: Path | None, security: bool) -> None:
    """Check the configuration, the model, the folders; say what to mend."""
    from roost.doctor import examine

    sys.exit(examine(find(path), security))


@main.group()
def config() -> None:
    """Look at the configuration."""


@config.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of bot.toml."""
    from roost.tomlschema import schema

    click.echo(json.dumps(schema(load_plugins(None)), indent=2))


@config.command("check")
@config_option
def config_check(path: Path | None) -> None:
    """Say what is wrong in bot.toml, if anything."""
    _, config = prepare(path)
    if config.problems:
        sys.exit(1)
    click.echo(f"{config.path}: everything is in order.")


@config.command("path")
@config_option
def config_path(path: Path | None) -> None:
    """Print which bot.toml is used."""
    click.echo(find(path))


@main.group()
def channels() -> None:
    """Look at the channels."""


@channels.command("list")
@config_option
def channels_list(path: Path | None) -> None:
    """List the channels of bot.toml, how each is where the bot runs, and the other kinds there are."""
    from roost.home import data_folder, in_use
    from roost.trial import states
    from roost.wishes import wish

    registry, config = prepare(path)
    told = json.loads(wish(config, registry, states)) if in_use(data_folder()) else {}
    for name in config.channels:
        click.echo(f"{name:<20} {told.get(name, 'on')}")
    for kind in sorted(set(registry.channels.entries) - set(config.channels)):
        click.echo(f"{kind:<20} off; switch it on: roost channels add {kind}")


@channels.command("test")
@click.argument("name")
@config_option
def channels_test(name: str, path: Path | None) -> None:
    """See whether a channel gets through to its platform. What comes meanwhile is not lost."""
    from roost.trial import REFUSED, tried

    said = granted(tried, name, path=path)
    click.echo(said.removeprefix(REFUSED))
    sys.exit(0 if said.endswith("works.") else 1)


@channels.command("add")
@click.argument("kind")
@click.option("--trial/--no-trial", default=True, help="Whether to try what was written.")
@config_option
def channels_add(kind: str, trial: bool, path: Path | None) -> None:
    """Switch a channel on: install what it needs, ask for its keys, write them to bot.toml, try them."""
    from roost.add import add_channel
    from roost.trial import tried

    add_channel(kind, find(path), load_plugins(path), partial(granted, tried, path=path) if trial else None)


@main.group()
def letters() -> None:
    """Messages that could not be delivered."""


@letters.command("list")
def letters_list() -> None:
    """List them: number, place, what went wrong."""
    from roost.letters import dead

    for letter in dead(journal_file(), cipher=folder_cipher()):
        click.echo(f"{letter.id:>6}  {moment(letter.at)}  {letter.place:<24} {letter.error}")


@letters.command("show")
@click.argument("number", type=int)
def letters_show(number: int) -> None:
    """Print one."""
    from roost.letters import dead

    for letter in dead(journal_file(), number, folder_cipher()):
        click.echo(f"to {letter.place}, {moment(letter.at)}, {letter.tries} tries: {letter.error}\n\n{letter.text}")


@letters.command("resend")
@click.argument("number", type=int, required=False)
def letters_resend(number: int | None) -> None:
    """Try one again, or all."""
    from roost.letters import resend

    click.echo(f"{resend(journal_file(), number, folder_cipher())} to be sent again.")


@letters.command("drop")
@click.argument("number", type=int, required=False)
@click.confirmation_option(prompt="Delete for good?")
def letters_drop(number: int | None) -> None:
    """Delete one for good, or all."""
    from roost.letters import drop

    click.echo(f"{drop(journal_file(), number, folder_cipher())} deleted.")


@main.group()
def journal() -> None:
    """What was accepted and what became of it."""


@journal.command("check")
def journal_check() -> None:
    """Check that every accepted message has come to exactly one end."""
    from roost.audit import audit

    found = audit(journal_file(), folder_cipher())
    click.echo("\n".join(found.lines()))
    sys.exit(1 if found.exceptions else 0)


@main.group()
def encryption() -> None:
    """Have what is said encrypted on the disk."""


@encryption.command("status")
@config_option
def encryption_status(path: Path | None) -> None:
    """Say whether it is, and with which key."""
    from roost.encryption import HOW, OFF, status
    from roost.home import data_folder

    _, config = prepare(path, log="error")
    told = status(data_folder(), config.bot.encryption)
    click.echo(f"{OFF} {HOW}" if told == OFF else told)


@encryption.command("on")
@config_option
def encryption_on(path: Path | None) -> None:
    """Encrypt everything now; a start of the bot does it as well."""
    from roost.encryption import turn_on
    from roost.home import data_folder

    registry, config = prepare(path, log="warning")
    click.echo(turn_on(config, registry, data_folder()))


@encryption.command("off")
@click.argument("key", default="")
@config_option
@click.confirmation_option(prompt="Write everything in clear text?")
def encryption_off(key: str, path: Path | None) -> None:
    """Decrypt everything, with the key from bot.toml or from KEY (env:NAME, file:PATH, keyring:SERVICE)."""
    from roost.encryption import turn_off
    from roost.home import data_folder

    _, config = prepare(path, log="warning")
    click.echo(turn_off(config, data_folder(), key or config.bot.encryption))


@encryption.command("new-key")
def encryption_new_key() -> None:
    """Print a fresh key, for you to keep."""
    from roost.secret import new_key

    click.echo(new_key())


@encryption.command("change-key")
@click.argument("to")
@config_option
def encryption_change_key(to: str, path: Path | None) -> None:
    """Let the key from TO (env:NAME, file:PATH, keyring:SERVICE) open the folder instead of the one in bot.toml."""
    from roost.encryption import change_key
    from roost.home import data_folder

    _, config = prepare(path, log="error")
    click.echo(change_key(config, data_folder(), to))


def journal_file() -> Path:
    from roost.home import data_folder

    return data_folder() / "journal.db"


def folder_cipher() -> Cipher | None:
    """What opens the data folder, when it is encrypted."""
    from roost.cipher import is_begun
    from roost.encryption import look
    from roost.home import data_folder

    if not is_begun(data_folder()):
        return None
    _, config = prepare(None, log="error")
    return look(data_folder(), config.bot.encryption)


def moment(at: float) -> str:
    """A time as people here write it."""
    return f"{datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M}"


def granted(function: Offer, *words: str, path: Path | None = None) -> str:
    """Have something done by the bot that runs, or here when none does."""
    from roost.wishes import wish

    registry, config = prepare(path, log="error")
    return wish(config, registry, function, *words)


def find(path: Path | None) -> Path:
    """The configuration to use. Where there is none, the default one is written to the data folder."""
    if path is not None:
        return path
    if given := os.environ.get("ROOST_CONFIG"):
        return Path(given)
    here = Path("bot.toml")
    if here.is_file():
        return here
    from roost.home import data_folder

    kept = data_folder() / "bot.toml"
    if not kept.exists():
        kept.write_text((Path(__file__).parent / "default.toml").read_text())
        click.echo(f"There was no bot.toml, so the default one was written to {kept}.", err=True)
    return kept


def prepare(path: Path | None, log: str = "") -> tuple[Registry, Config]:
    """Load plugins and configuration, and begin to log."""
    from roost import config, logs, references

    path = find(path)
    logs.begin(log or os.environ.get("ROOST_BOT_LOG", "info"))
    registry = load_plugins(path)
    loaded = config.load(path, registry)
    logs.hide(config.secrets(loaded))
    logs.begin(log or loaded.bot.log)
    for problem in loaded.problems:
        click.echo(problem, err=True)
    for sentence in references.exposures(path, loaded.origins):
        logging.getLogger("roost").warning("%s", sentence)
    return registry, loaded


def load_plugins(path: Path | None) -> Registry:
    """Every plugin there is: ours, installed ones, those beside bot.toml."""
    from roost.registry import Registry

    registry = Registry()
    if path is None:
        registry.load()
    else:
        from roost import logs, references
        from roost.config import plugin_settings

        logs.hide(references.early(path))
        registry.load(*plugin_settings(path))
    return registry
