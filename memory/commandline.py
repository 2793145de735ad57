"""`roost memory …`"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from roost.cli import granted


@click.group()
def memory() -> None:
    """What is remembered: look, search, compact, export, forget."""


@memory.command("list")
def memory_list() -> None:
    """List the conversations that are remembered."""
    from roost.memory import offers

    click.echo(granted(offers.places))


@memory.command("log")
@click.argument("place", default="")
def memory_log(place: str) -> None:
    """What became of the last compactions."""
    from roost.memory import offers

    click.echo(granted(offers.log, place))


@memory.command("compact")
@click.argument("place", default="")
@click.option("--extract", is_flag=True, help="Take sentences out instead of asking the brain.")
def memory_compact(place: str, extract: bool) -> None:
    """Fold older turns into a summary, in one place or in all."""
    from roost.memory import offers

    click.echo(granted(offers.compact, place, "extract" if extract else ""))


@memory.command("search")
@click.argument("place")
@click.argument("words", nargs=-1, required=True)
def memory_search(place: str, words: tuple[str, ...]) -> None:
    """Search one conversation."""
    from roost.memory import offers

    click.echo(granted(offers.search, place, " ".join(words)))


@memory.command("check")
def memory_check() -> None:
    """Look for damage in windows, facts and archives."""
    from roost.memory import offers

    found = granted(offers.check)
    click.echo(found)
    sys.exit(found != offers.WHOLE)


@memory.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("place", default="")
def memory_export(file: Path, place: str) -> None:
    """Write turns, summaries and facts to FILE, as JSON lines in clear text."""
    from roost.memory import offers

    click.echo(granted(offers.write_out, str(file.resolve()), place))


@memory.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def memory_import(file: Path) -> None:
    """Read what was exported, or any JSON lines with place, role and text."""
    from roost.memory import offers

    click.echo(granted(offers.read_in, str(file.resolve())))


@memory.command("forget")
@click.argument("whom")
@click.confirmation_option(prompt="Erase it for good?")
def memory_forget(whom: str) -> None:
    """Erase a place (telegram:42) or a person, everywhere they spoke."""
    from roost.memory import offers

    click.echo(granted(offers.forget, whom))


@memory.command("shell")
@click.argument("place")
def memory_shell(place: str) -> None:
    """Open the recent turns of a place with TinyDB, in a Python shell. It works on a copy."""
    import code
    import tempfile

    from tinydb import Query

    from roost.cli import folder_cipher
    from roost.home import data_folder
    from roost.memory.conversation import file_name
    from roost.memory.offers import place_of
    from roost.memory.store import Store

    cipher = folder_cipher()
    file = data_folder() / "memory" / file_name(str(place_of(place)), cipher)
    if not file.is_file():
        raise click.ClickException(f"Nothing is remembered of '{place}'. `roost memory list` shows what is.")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / file.name
        copy.write_bytes(file.read_bytes())
        with Store(copy, cipher=cipher) as db:
            names = {"db": db, "turns": db.table("turns"), "Query": Query}
            code.interact("db is a TinyDB; try: turns.search(Query().role == 'user')", local=names, exitmsg="")
