"""Defences taken away one at a time: each must make a test fail. `python tests/mutants.py`, or `make mutants`.

The package is copied and the copy is changed; the tests run where they are, with the copy in front of everything else.
Each defence here is named in docs/threat-model.md by its test: tests/test_threat_model.py holds the two together.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
SKIPPED = 100
OUTCOMES = {0: "SURVIVES", 1: "noticed ", SKIPPED: "skipped "}


@dataclass(frozen=True, slots=True)
class Mutant:
    """What is `old` in a file, once, becomes `new`; then `test` must fail: a path below tests/ and a name."""

    file: str
    old: str
    new: str
    test: str


MUTANTS = {
    # A stranger in a direct chat
    "strangers are talked to": Mutant(
        "bot/access.py",
        'if role != "stranger" or rules.direct == "open":',
        "if True:",
        "test_access.py::test_a_stranger_is_let_in_by_the_code_that_they_told_the_owner",
    ),
    "any code makes an owner": Mutant(
        "bot/access.py",
        "if hmac.compare_digest(said.encode(), self.code.encode()):",
        "if True:",
        "test_defences.py::test_a_wrong_code_of_the_right_length_makes_nobody_the_owner",
    ),
    "the owner's code may be guessed for ever": Mutant(
        "bot/access.py",
        "        if self._wrong >= WRONG_CODES:\n",
        "        if False:\n",
        "test_defences.py::test_after_many_wrong_ones_the_owners_code_is_void",
    ),
    "the owner's code counts twice": Mutant(
        "bot/access.py",
        'code, self.code = self.code, ""',
        "code = self.code",
        "test_access.py::test_of_many_who_send_the_owners_code_at_once_one_becomes_the_owner",
    ),
    "codes may be guessed for ever": Mutant(
        "bot/guarding.py",
        "    if await pairing.locked(me):\n",
        "    if False:\n",
        "test_access.py::test_five_wrong_codes_lock_even_the_right_one_out_for_an_hour",
    ),
    "codes are kept as they are": Mutant(
        "bot/pairing.py",
        "await asyncio.to_thread(slow_hash, code, token), time",
        "code.encode(), time",
        "test_access.py::test_a_code_is_nowhere_on_the_disk",
    ),
    "every stranger is answered": Mutant(
        "bot/pairing.py",
        "return lately >= per_hour or",
        "return",
        "test_access.py::test_only_some_strangers_are_answered_and_each_once",
    ),
    "a personal account answers strangers": Mutant(
        "bot/access.py",
        "if self._house.personal(message.place.channel):",
        "if False:",
        "test_access.py::test_on_a_personal_account_strangers_get_silence_and_no_code",
    ),
    "a name may hold what is not seen": Mutant(
        "bot/door.py",
        "for char in text if not _unseen(char))",
        "for char in text)",
        "test_access.py::test_a_strangers_name_cannot_pretend_to_be_more_than_a_name",
    ),
    "an id without proof gets any role": Mutant(
        "bot/access.py",
        'if given in ("person", "admin", "owner") and self._house.unproven(id)',
        "if False",
        "test_proof.py::test_a_role_that_was_given_while_an_id_was_proven_is_a_guests_once_it_is_not",
    ),
    "budgets are not looked at": Mutant(
        "bot/access.py",
        "return spent_all(await self.budgets.take(message, rules), message)",
        "return WELCOME",
        "test_access_budgets.py::test_who_has_used_up_a_budget_is_told_once_and_then_gets_silence",
    ),
    "a date beyond all numbers ends a channel": Mutant(
        "channels/matrix_rooms.py",
        "MALFORMED = (KeyError, TypeError, ValueError, OverflowError,",
        "MALFORMED = (KeyError, TypeError, ValueError,",
        "test_fuzz.py::test_recorded_updates_and_those_that_once_did_harm_are_read",
    ),
    "a file keeps the name it came with": Mutant(
        "bot/media.py",
        're.split(r"[/\\\\]", name)[-1] if char.isprintable()',
        "name if char.isprintable()",
        "test_media.py::test_the_name_of_a_strangers_file_leads_nowhere",
    ),
    # A member of a group
    "everything in a group is answered": Mutant(
        "bot/access.py",
        'if message.addressed and (known or rules.groups == "open"):',
        "if True:",
        "test_access.py::test_a_group_is_answered_when_it_addresses_the_bot_and_by_whom_it_knows",
    ),
    "who is blocked is heard": Mutant(
        "bot/access.py",
        "if not local and self.blocked(message.sender):",
        "if False:",
        "test_access.py::test_who_is_blocked_gets_silence_and_is_not_overheard",
    ),
    # A person of the bot
    "commands are for everybody": Mutant(
        "bot/functions.py",
        "if not allows(bot.role(message), command.role):",
        "if False:",
        "test_access.py::test_deciding_is_for_admins_and_roles_are_for_the_owner",
    ),
    "tools are for everybody": Mutant(
        "bot/thinking.py",
        "        and allows(role, one.role)\n",
        "",
        "test_tools.py::test_an_owners_tool_is_neither_offered_to_others_nor_carried_out_for_them",
    ),
    "one conversation is another's": Mutant(
        "memory/files.py",
        "        name = str(place)\n        if name not in self._conversations:",
        "        name = place.chat\n        if name not in self._conversations:",
        "test_isolation.py::test_nothing_planted_in_one_place_or_by_one_person_is_seen_elsewhere",
    ),
    "facts are everybody's": Mutant(
        "memory/facts.py",
        "return self.folder / file_name(owner, self._cipher)",
        'return self.folder / file_name("all", self._cipher)',
        "test_isolation.py::test_nothing_planted_in_one_place_or_by_one_person_is_seen_elsewhere",
    ),
    # Who wrote a page, a forwarded text, a file
    "strangers' text may have tools called": Mutant(
        "bot/thinking.py",
        "if any(one.confirm or (one.effects and strange) for one in chosen):",
        "if any(one.confirm for one in chosen):",
        "test_tools.py::test_a_tool_with_effects_is_called_freely_until_there_is_text_of_strangers",
    ),
    "an address at home is fetched": Mutant(
        "bot/fetching.py",
        "        if not self.public(address):\n",
        "        if False:\n",
        "test_fetching.py::test_a_name_with_one_address_at_home_is_refused",
    ),
    "any address is asked": Mutant(
        "bot/fetching.py",
        "            self._guard.check(url)\n",
        "",
        "test_fetching.py::test_what_is_no_plain_web_address_is_refused",
    ),
    "a name is looked up twice": Mutant(
        "bot/fetching.py",
        "resolver=Looked(self._guard), use_dns_cache",
        "use_dns_cache",
        "test_fetching.py::test_the_connection_goes_to_the_address_that_was_looked_at",
    ),
    "all is unpacked at once": Mutant(
        "bot/fetching.py",
        "yield reader.decompress(left, most)",
        "yield reader.decompress(left)",
        "test_fetching.py::test_no_more_is_unpacked_at_once_than_is_taken",
    ),
    "control tokens are shown": Mutant(
        "brains/hygiene.py",
        r'PIPED = r"<[|｜][\w▁]{1,40}[|｜]>"',
        'PIPED = "(?!)"',
        "brains/test_hygiene.py::test_control_tokens_are_never_seen",
    ),
    "a disguised file is opened": Mutant(
        "bot/looking.py",
        '    if form is not None and form.sort != "image" and form.mime != one.mime:\n',
        "    if False:\n",
        "test_attachments.py::test_what_is_called_a_picture_and_is_none_is_refused",
    ),
    "a picture may be of any size": Mutant(
        "bot/looking.py",
        "    if width * height > MAX_PIXELS or max(size) > MAX_SIDE:\n",
        "    if False:\n",
        "test_attachments.py::test_a_small_file_that_is_a_huge_picture_is_refused_by_its_header",
    ),
    # An MCP server
    "a server of tools gets our environment": Mutant(
        "bot/mcp_pipe.py",
        "for name in BASICS if name in os.environ",
        "for name in os.environ",
        "test_mcp_client.py::test_the_child_sees_its_own_environment_and_no_secret_of_the_bot",
    ),
    "a server of tools may say what it likes": Mutant(
        "bot/mounts.py",
        "outside=not self.table.trusted",
        "outside=False",
        "test_mcp_client.py::test_what_a_server_answers_is_strangers_text_unless_it_is_trusted",
    ),
    "a server of tools may send without end": Mutant(
        "bot/mcp_pipe.py",
        "LONGEST = 4 << 20",
        "LONGEST = 4 << 30",
        "test_mcp_client.py::test_a_message_that_is_too_long_ends_the_connection_and_not_the_bot",
    ),
    # The author of a plugin
    "anything may be connected to": Mutant(
        "bot/egress.py",
        "        raise self._refusal(names, port)\n",
        "        return names[0]\n",
        "test_egress.py::test_strict_refuses_what_nothing_names",
    ),
    "secrets are logged": Mutant(
        "bot/logs.py",
        "return without(text, finder(self.secrets))",
        "return text",
        "test_secrets_canary.py::test_no_canary_is_seen_in_anything_that_is_printed_kept_or_answered",
    ),
    # The network
    "Telegram's header is not looked at": Mutant(
        "channels/telegram.py",
        'return hmac.compare_digest(shown.encode(errors="replace"), self._secret().encode())',
        "return True",
        "test_webhooks.py::test_what_is_not_signed_is_refused_and_leaves_nothing",
    ),
    "Twilio's signature is not looked at": Mutant(
        "channels/sms_messages.py",
        "return bool(RequestValidator(token).validate(url, covered, signature))",
        "return True",
        "test_webhooks.py::test_what_is_not_signed_is_refused_and_leaves_nothing",
    ),
    "Slack's signature is not looked at": Mutant(
        "channels/slack_front.py",
        "return SignatureVerifier(self._secret).is_valid_request(body, request.headers)",
        "return True",
        "test_webhooks.py::test_what_is_not_signed_is_refused_and_leaves_nothing",
    ),
    "a webhook's signature is not looked at": Mutant(
        "channels/webhook.py",
        "hmac.compare_digest(expected, one.encode(",
        'one.encode(errors="replace") or (one.encode(',
        "test_webhooks.py::test_what_is_not_signed_is_refused_and_leaves_nothing",
    ),
    "an old post counts": Mutant(
        "channels/webhook.py",
        " or abs(now - int(timestamp)) > TOLERANCE",
        "",
        "test_replays.py::test_a_signature_counts_for_five_minutes_before_and_after",
    ),
    "a post counts twice": Mutant(
        "bot/journal.py",
        "self.seals.hide(identity(item)), place",
        "self.seals.hide(identity(item) + str(time.time())), place",
        "test_webhooks.py::test_a_request_that_is_sent_again_counts_once",
    ),
    "deep JSON is an error of ours": Mutant(
        "channels/telegram.py",
        "        except (ValueError, RecursionError):\n            raise web.HTTPBadRequest",
        "        except ValueError:\n            raise web.HTTPBadRequest",
        "test_webhooks.py::test_what_is_signed_and_damaged_is_no_error_of_ours",
    ),
    "a number beyond all times is an error of ours": Mutant(
        "channels/slack_front.py",
        "except (ValueError, TypeError, OverflowError):",
        "except (ValueError, TypeError):",
        "test_webhooks.py::test_what_is_not_signed_is_refused_and_leaves_nothing",
    ),
    "a body has any size": Mutant(
        "bot/web.py",
        "MAX_BODY = 1024 * 1024",
        "MAX_BODY = 1024**4",
        "test_web.py::test_a_body_over_the_limit_is_refused",
    ),
    "without a token the world is let in": Mutant(
        "bot/web.py",
        "if not self._config.token and not is_loopback(self._config.host):",
        "if False:",
        "test_web.py::test_listening_for_others_without_a_token_is_refused_with_the_cure",
    ),
    "whoever is refused may go on for ever": Mutant(
        "bot/web_limits.py",
        "        if not bucket.has(cost):\n",
        "        if False:\n",
        "test_web_limits.py::test_whoever_proves_to_be_nobody_is_refused_with_429_and_told_how_long",
    ),
    "tokens may be tried for ever": Mutant(
        "bot/login.py",
        "return len(failures) < TRIES",
        "return True",
        "test_web.py::test_a_wrong_token_is_refused_and_too_many_are_not_even_looked_at",
    ),
    "any session is known": Mutant(
        "bot/login.py",
        "if not hmac.compare_digest(self._sign(body).encode(), _bytes(signature)):",
        "if False:",
        "test_login.py::test_nothing_but_a_session_is_known_and_nothing_but_the_token_matches",
    ),
    "whoever says so is another visitor": Mutant(
        "bot/web_visitors.py",
        "        if not self.trusts(peer):\n            return plain\n",
        "",
        "test_web_visitors.py::test_without_a_trusted_proxy_nothing_that_a_visitor_says_of_itself_counts",
    ),
    "the web face is never encrypted": Mutant(
        "bot/web.py",
        "encrypt = certificate.context if certificate is not None else None",
        "encrypt = None",
        "test_web_tls.py::test_pages_forms_and_websockets_come_over_https_and_sessions_are_secure",
    ),
    "any certificate will do": Mutant(
        "channels/irc_config.py",
        "    if not config.verify:\n",
        "    if True:\n",
        "channels/test_irc.py::test_a_certificate_that_nobody_vouches_for_is_not_trusted",
    ),
    # A page of another site
    "any site may send our forms": Mutant(
        "bot/web_headers.py",
        "if not name or (name != visitor.host.lower() and not self._is_public(name)):",
        "if False:",
        "test_web.py::test_a_form_and_a_websocket_from_another_site_are_refused",
    ),
    "any name is ours": Mutant(
        "bot/web_headers.py",
        "return name in self._names or (is_address(name) and self._shared)",
        "return True",
        "test_web.py::test_any_other_name_is_refused",
    ),
    "pages may run anything": Mutant(
        "bot/web_headers.py",
        "default-src 'none'; script-src 'self';",
        "default-src *; script-src * 'unsafe-inline';",
        "test_web.py::test_pages_for_people_carry_the_headers_that_guard_them",
    ),
    # Somebody with the disk
    "the journal is not sealed": Mutant(
        "bot/sealing.py",
        "return self._cipher.seal(value.encode() if isinstance(value, str) else value, _about(column, owner))",
        "return value",
        "test_sealed.py::test_with_a_key_neither_files_nor_their_names_show_anything",
    ),
    "files are for everybody on the machine": Mutant(
        "bot/media.py",
        "fresh.touch(mode=0o600)",
        "fresh.touch(mode=0o644)",
        "test_media.py::test_a_file_is_there_in_the_next_run_for_its_owner_alone",
    ),
    "anybody on the machine is the owner": Mutant(
        "channels/terminal.py",
        "return hello if hmac.compare_digest(hello.token.encode(), self._token.encode()) else None",
        "return hello",
        "channels/test_terminal.py::test_without_the_token_the_connection_is_closed_and_nothing_is_heard",
    ),
    # Whoever runs a brain elsewhere
    "private data leaves": Mutant(
        "bot/leaving.py",
        'return Noted(brain) if allowed == "allow" else Veiled(',
        "return Noted(brain) if True else Veiled(",
        "test_leaving.py::test_names_and_numbers_leave_as_stand_ins_and_come_back",
    ),
    "what is too private leaves": Mutant(
        "bot/leaving.py",
        "return seen or len(text) > LONGEST or sensitivity(text) >= self._bot.config.privacy.keep_home",
        "return seen or len(text) > LONGEST",
        "test_leaving.py::test_what_is_too_private_stays_with_the_brain_at_home",
    ),
    "never is not never": Mutant(
        "bot/leaving.py",
        '        if allowed == "never":\n',
        "        if False:\n",
        "test_defences.py::test_a_brain_elsewhere_is_not_given_what_never_leaves",
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Take defences away, and see whether a test fails.")
    parser.add_argument("words", nargs="*", help="Only those whose name or file has one of these in it.")
    words = parser.parse_args().words
    chosen = {
        name: one for name, one in MUTANTS.items() if not words or any(word in f"{name} {one.file}" for word in words)
    }
    with TemporaryDirectory(prefix="roost-mutants-") as folder:
        lay_out(Path(folder))
        whole = run(Path(folder), *sorted({one.test for one in chosen.values()}))
        if whole not in (0, SKIPPED):
            print("The tests fail before anything is taken away.")
            return 2
        survivors = [name for name, one in chosen.items() if not is_noticed(Path(folder), name, one)]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} are noticed.")
    return 1 if survivors else 0


def lay_out(site: Path) -> None:
    """The package as installation lays it out. What is imported from then on is looked at, or nothing is proven."""
    folders = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
    for package, folder in folders.items():
        away = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, site / package.replace(".", "/"), dirs_exist_ok=True, ignore=away)
    code = "import roost, roost.channels, roost.memory; print(roost.__file__, roost.channels.__file__)"
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, env=around(site), cwd=ROOT, capture_output=True, text=True, check=False)
    if not all(path.startswith(str(site)) for path in found.stdout.split() or [""]):
        raise SystemExit(f"The copy is not what is imported: {found.stdout}{found.stderr}")


def around(site: Path) -> dict[str, str]:
    # Without compiled files: two versions of one second and one size would be taken for the same.
    kept = {"PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_STORAGE_DIRECTORY": str(site / "hypothesis")}
    return {**os.environ, **kept, "PYTHONPATH": str(site)}


def placed(site: Path, file: str) -> Path:
    return site / "roost" / (file.removeprefix("bot/"))


def run(site: Path, *tests: str) -> int:
    """pytest's exit status: 0 when all pass, 1 when a test fails; SKIPPED when none ran, for want of a program."""
    paths = [str(ROOT / "tests" / test) for test in tests]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *paths]
    done = subprocess.run(command, env=around(site), cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode > 1 or (len(tests) > 1 and done.returncode):
        print(done.stdout[-2000:], done.stderr[-1000:])
    return SKIPPED if done.returncode == 0 and " passed" not in done.stdout else done.returncode


def is_noticed(site: Path, name: str, mutant: Mutant) -> bool:
    """Change the copy, run the test, and change it back."""
    path = placed(site, mutant.file)
    before = path.read_text(encoding="utf-8")
    path.write_text(mutated(before, mutant), encoding="utf-8")
    try:
        status = run(site, mutant.test)
    finally:
        path.write_text(before, encoding="utf-8")
    print(f"{OUTCOMES.get(status, 'BROKEN  ')} {name}: {mutant.test}", flush=True)
    return status in (1, SKIPPED)


def mutated(text: str, mutant: Mutant) -> str:
    if text.count(mutant.old) != 1:
        raise SystemExit(f"'{mutant.old}' is {text.count(mutant.old)} times in {mutant.file}; it has to be once.")
    return text.replace(mutant.old, mutant.new)


if __name__ == "__main__":
    sys.exit(main())
