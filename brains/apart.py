"""Work with a model file in a process of its own: should the engine's library fall over, a sentence comes back.

`python -m roost.brains.apart` takes a job as one line of JSON and writes lines of JSON: how far it is, then its result.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from roost.errors import ModelError, RoostError

Report = Callable[[str, int, int], None]


def unheard(step: str, done: int, total: int) -> None:
    """Progress that nobody follows."""


def work(job: str, arguments: dict[str, Any], report: Report = unheard) -> Any:
    """Have a job of `roost.brains.jobs` done elsewhere. Raises ModelError with what it said."""
    with subprocess.Popen(
        [sys.executable, "-m", "roost.brains.apart"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    ) as process:
        try:
            return followed(process, json.dumps({"job": job, **arguments}), report)
        finally:
            process.kill()


def followed(process: subprocess.Popen[str], line: str, report: Report) -> Any:
    assert process.stdin and process.stdout and process.stderr
    said: list[str] = []
    listener = threading.Thread(target=said.extend, args=(process.stderr,), daemon=True)
    listener.start()
    with suppress(BrokenPipeError):
        process.stdin.write(line + "\n")
        process.stdin.flush()
    for answer in process.stdout:
        told = json.loads(answer)
        if "step" in told:
            report(told["step"], told["done"], told["total"])
        elif "error" in told:
            raise ModelError(told["error"])
        else:
            return told["result"]
    status = process.wait()
    listener.join()
    words = " ".join(part.strip() for part in said[-3:]) or "It said nothing."
    raise ModelError(f"The work on the model ended in the middle, with status {status}. {words[-500:]}")


def serve() -> None:
    """Do the job on standard input; end when that ends, so that nothing goes on without the one who asked."""
    from roost.brains.jobs import JOBS

    arguments = json.loads(sys.stdin.readline())
    job = JOBS[arguments.pop("job")]
    threading.Thread(target=end_with_input, daemon=True).start()
    out = sys.stdout

    def tell(**line: Any) -> None:
        out.write(json.dumps(line) + "\n")
        out.flush()

    def report(step: str, done: int, total: int) -> None:
        tell(step=step, done=done, total=total)

    try:
        tell(result=job(report=report, **arguments))
    except RoostError as error:
        tell(error=str(error))
    except OSError as error:
        tell(error=f"The work on the model stopped: {error}. Is the disk full?")
    except MemoryError:
        tell(error="There is not enough memory for this model.")


def end_with_input() -> None:
    sys.stdin.read()
    os._exit(3)


if __name__ == "__main__":
    serve()
