"""mastodon_mock, Mastodon's API by somebody else, in a virtual environment of its own. https://pypi.org/project/mastodon-mock/"""

from __future__ import annotations

import atexit
import itertools
import json
import secrets
import shutil
import subprocess
import tempfile
import time
import urllib.request
from functools import lru_cache
from pathlib import Path

from servers.apart import free_port, installed

VERSION = "0.6.1"
READY_SECONDS = 120
PEOPLE = 60  # of each: the bot, Ann and Bob, made when the server starts


class Server:
    """A running server at `url`, one for all tests, without limits of rate. Tokens are `token-NAME`."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="mastodon-"))
        atexit.register(self.stop)
        self._numbers = itertools.count()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        config = self._folder / "mastodon.toml"
        config.write_text(self._config(), encoding="utf-8")
        command = [
            str(installed("mastodon-mock", VERSION)),
            "-m",
            "mastodon_mock",
            "serve",
            "--in-memory",
            "--config",
            str(config),
        ]
        command += ["--port", str(self.port), "--log-level", "warning"]
        with (self._folder / "output").open("wb") as output:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=output, stderr=output)
        self._await()

    def _config(self) -> str:
        self._secret = secrets.token_hex(8)
        names = [f"{who}{number}" for number in range(PEOPLE) for who in ("bot", "ann", "bob")]
        return "".join(
            f"[[seed.accounts]]\nusername = {json.dumps(name)}\naccess_token = {json.dumps(self.token(name))}\n"
            f"bot = {json.dumps(name.startswith('bot'))}\n"
            for name in names
        )

    def token(self, name: str) -> str:
        return f"token-{self._secret}-{name}"

    def people(self) -> tuple[str, str, str]:
        """The names of a bot, an Ann and a Bob that nobody has used yet."""
        number = next(self._numbers)
        return f"bot{number}", f"ann{number}", f"bob{number}"

    def _await(self) -> None:
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/api/v2/instance", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        said = (self._folder / "output").read_text(encoding="utf-8", errors="replace")[-2000:]
        raise RuntimeError(f"The server did not start: {said}")

    def stop(self) -> None:
        process = getattr(self, "_process", None)
        if process is not None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        shutil.rmtree(self._folder, ignore_errors=True)


@lru_cache(maxsize=1)
def running() -> Server:
    """The one server of this process."""
    return Server()
