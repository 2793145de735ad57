"""Dead letters and the audit, as a person meets them on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from roost import bot as bot_module
from roost.audit import audit
from roost.cli import main
from roost.errors import StoreError, Undeliverable
from roost.letters import dead, resend
from roost.testing import Stage


async def one_dead_letter(stage: Stage) -> Path:
    stage.channel.fail = [Undeliverable("blocked by the person")]
    await stage.talk("hello")
    return stage.folder / "home" / "journal.db"


async def test_a_dead_letter_is_listed_shown_and_sent_again_by_the_running_bot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bot_module, "HEED", 0.01)
    monkeypatch.setenv("ROOST_HOME", str(tmp_path / "home"))
    async with Stage(tmp_path) as stage:
        path = await one_dead_letter(stage)
        run = CliRunner()
        assert "blocked by the person" in run.invoke(main, ["letters", "list"]).output
        assert "\n\nhello\n" in run.invoke(main, ["letters", "show", "1"]).output
        assert run.invoke(main, ["letters", "resend", "1"]).output == "1 to be sent again.\n"
        async with stage.channel.came:
            await stage.channel.came.wait_for(lambda: bool(stage.channel.sent))
        await stage.quiet()
        assert [reply.text for _, reply in stage.channel.sent] == ["hello"]
        assert dead(path) == []


async def test_a_letter_revived_while_no_bot_runs_goes_out_at_the_next_start(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        path = await one_dead_letter(stage)
    assert resend(path) == 1
    async with Stage(tmp_path) as stage:
        await stage.quiet()
        assert [reply.text for _, reply in stage.channel.sent] == ["hello"]


async def test_a_dropped_letter_leaves_no_text_and_the_books_still_balance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOST_HOME", str(tmp_path / "home"))
    async with Stage(tmp_path) as stage:
        path = await one_dead_letter(stage)
    assert CliRunner().invoke(main, ["letters", "drop", "--yes"]).output == "1 deleted.\n"
    assert dead(path) == []
    assert audit(path).exceptions == []


async def test_the_audit_counts_every_end(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        await stage.talk("hello")
        await stage.talk("")
        found = audit(tmp_path / "home" / "journal.db")
        assert (found.accepted, found.outcomes, found.exceptions) == (2, {"reply": 1, "silent": 1}, [])


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        ("UPDATE inbox SET outcome = 'silent', reason = ''", "message 1 ended in silence without a reason"),
        ("UPDATE inbox SET outcome = NULL", "part 1 answers a message that has not ended"),
        ("DELETE FROM outbox WHERE id = 2", "message 2 ended as answered, but no part of an answer was ever written"),
        ("UPDATE outbox SET state = 'lost'", "part 1 is in a state that does not exist"),
    ],
)
async def test_the_audit_finds_what_must_not_be(tmp_path: Path, damage: str, complaint: str) -> None:
    async with Stage(tmp_path) as stage:
        await stage.talk("one")
        await stage.talk("two")
        await stage.bot.journal.do(lambda db: db.execute(damage))
        assert complaint in audit(tmp_path / "home" / "journal.db").exceptions


def test_a_journal_that_is_not_there_or_unreadable_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="There is no journal"):
        audit(tmp_path / "journal.db")
    (tmp_path / "journal.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="cannot be read"):
        audit(tmp_path / "journal.db")
