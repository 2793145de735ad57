"""One target under atheris (https://github.com/google/atheris): bytes that reach new lines are built upon."""

from __future__ import annotations

import argparse
import importlib
import sys
from hashlib import sha256
from pathlib import Path
from random import Random
from traceback import extract_tb

LONGEST = 60_000  # bytes of an update
SLOW = 5  # seconds that reading one may take
MEMORY = 1500  # megabytes of the whole process


def fingerprint(error: BaseException) -> str:
    """What tells one failure from another: the kind of error and the lines that led to it, without the fuzzer's."""
    lines = [f"{one.filename}:{one.lineno}" for one in extract_tb(error.__traceback__) if "/fuzz/" not in one.filename]
    return sha256(f"{type(error).__name__} {error if not lines else lines[-3:]}".encode()).hexdigest()[:10]


def fuzz(name: str, seconds: int, folder: Path, seed: int) -> None:
    """Fuzz until the time is over. What fails is left in `folder`, one file for each way of failing."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["roost"]):
        from fuzz.mutations import damage
        from fuzz.oracle import keeps, outcome, reader
        from fuzz.targets import TARGETS

        target = TARGETS[name]
        read = reader(name)
    seeds = target.seeds()
    others = seeds if target.shape == "json" else ()

    def once(data: bytes) -> None:
        try:
            for item in outcome(target, read, data):
                keeps(item, data)
        except (Exception, RecursionError) as error:
            path = folder / f"crash-{fingerprint(error)}"
            if not path.exists() or len(data) < path.stat().st_size:
                path.write_bytes(data)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.3:
            return bytes(atheris.Mutate(data, most))
        return damage(data or random.choice(seeds), target.shape, random, others)[:most]

    kept = folder / "kept"
    kept.mkdir(exist_ok=True)
    limits = [f"-max_total_time={seconds}", f"-timeout={SLOW}", f"-rss_limit_mb={MEMORY}", f"-max_len={LONGEST}"]
    quiet = ["-verbosity=0", "-print_final_stats=1", f"-seed={seed}", f"-artifact_prefix={folder}/"]
    folders = [str(kept), str(target.corpus[0].parent)]
    atheris.Setup([sys.argv[0], *limits, *quiet, *folders], once, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("seconds", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("seed", type=int)
    fuzz(**vars(parser.parse_args()))
