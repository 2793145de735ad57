"""Look for updates that do harm: `python -m fuzz --seconds 20 telegram irc`, or `make fuzz`.

What is found is made small and kept in tests/fuzz/corpus, where tests/test_fuzz.py reads it from then on.
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from fuzz.guided import fingerprint
from fuzz.oracle import TooManyCalls, check
from fuzz.shrink import shrunk
from fuzz.targets import CORPUS, TARGETS, Target

GRACE = 60  # seconds to begin and to end
Harm = tuple[str, str]


def main() -> int:
    parser = argparse.ArgumentParser(description="Look for updates that do harm.")
    parser.add_argument("targets", nargs="*", help=f"Some of {', '.join(TARGETS)}; all when none is named.")
    parser.add_argument("--seconds", type=int, default=20, help="For each target.")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31))
    told = parser.parse_args()
    if unknown := set(told.targets) - TARGETS.keys():
        parser.error(f"there is no target '{unknown.pop()}'")
    print(f"seed {told.seed}")
    return 1 if sum(look(TARGETS[name], told.seconds, told.seed) for name in told.targets or TARGETS) else 0


def look(target: Target, seconds: int, seed: int) -> int:
    """Fuzz one target; returns how many ways of doing harm were found."""
    with TemporaryDirectory(prefix="roost-fuzz-") as name:
        folder = Path(name)
        count, problem = guided(target, seconds, seed, folder)
        found = harms(target, folder)
        print(f"{target.name}: {count} updates, {len(found)} that do harm{problem}", flush=True)
    for (kind, where), data in found.items():
        path = kept(target, data)
        print(f"  {kind} {where}: {path.relative_to(CORPUS.parent)}, {path.stat().st_size} bytes", flush=True)
    return len(found) + bool(problem)


def guided(target: Target, seconds: int, seed: int, folder: Path) -> tuple[str, str]:
    """Run the fuzzer in a process of its own, which may hang or die. Returns how much it tried, and what went wrong."""
    command = [sys.executable, "-m", "fuzz.guided", target.name, str(seconds), str(folder), str(seed)]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=seconds + GRACE, check=False, env={**os.environ, "PYTHONUTF8": "1"}
        )
    except subprocess.TimeoutExpired:
        return "?", ", and it did not end"
    said = done.stderr.decode(errors="replace")
    counts = [line.split()[-1] for line in said.splitlines() if "number_of_executed_units" in line]
    if done.returncode and not artifacts(folder):
        return "no", f"; it failed: {said.splitlines()[-1:] or done.returncode}"
    return (counts or ["?"])[-1], ""


def artifacts(folder: Path) -> list[Path]:
    return [one for one in folder.iterdir() if one.is_file()]


def harms(target: Target, folder: Path) -> dict[Harm, bytes]:
    """What does harm here too, or was found to hang or to fill the memory there; one update for each way.

    The fuzzer does not count calls, so everything that reached new lines is read once more.
    """
    found: dict[Harm, bytes] = {}
    for path in sorted([*artifacts(folder), *(folder / "kept").glob("*")], key=lambda one: one.stat().st_size):
        data, name = path.read_bytes(), path.name.partition("-")[0]
        harm = harm_of(target, data) or ((name, "") if name in ("timeout", "oom") else None)
        if harm is not None:
            found.setdefault(harm, data)
    return found


def harm_of(target: Target, data: bytes) -> Harm | None:
    try:
        check(target, data)
    except TooManyCalls as error:
        return "TooManyCalls", str(error).rpartition(" ")[2]
    except Exception as error:
        return type(error).__name__, fingerprint(error)
    return None


def kept(target: Target, data: bytes) -> Path:
    harm = harm_of(target, data)
    small = data if harm is None else shrunk(data, target.shape, lambda one: harm_of(target, one) == harm)
    path = CORPUS / target.name / f"found-{sha256(small).hexdigest()[:10]}"
    path.write_bytes(small)
    return path


if __name__ == "__main__":
    sys.exit(main())
