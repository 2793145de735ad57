"""nostr-relay, a relay in Python, in a virtual environment of its own. https://code.pobblelabs.org/nostr_relay/"""

from __future__ import annotations

import atexit
import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from functools import lru_cache
from pathlib import Path

from servers.apart import free_port, installed

VERSION = "1.14"
READY_SECONDS = 120


class Relay:
    """A running relay at `url`, one for all tests: everybody on it has a key of their own."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="nostr-relay-"))
        atexit.register(self.stop)
        self.port = free_port()
        self.url = f"ws://127.0.0.1:{self.port}"
        config = self._folder / "config.yaml"
        config.write_text(json.dumps(self._config()), encoding="utf-8")
        # Its program `nostr-relay` would be of the folder that the environment was made in.
        start = "import sys; from nostr_relay.cli import main; sys.exit(main())"
        command = [str(installed("nostr-relay", VERSION)), "-c", start, "-c", str(config), "serve", "--use-uvicorn"]
        with (self._folder / "output").open("wb") as output:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=output, stderr=output)
        self._await()

    def _config(self) -> dict[str, object]:
        """https://code.pobblelabs.org/nostr_relay/ : its own config.yaml, with 64 KB for an event as relays have."""
        return {
            "DEBUG": False,
            "relay_name": "test",
            "storage": {
                "sqlalchemy.url": f"sqlite+aiosqlite:///{self._folder}/nostr.sqlite3",
                "num_concurrent_reqs": 10,
                "num_concurrent_adds": 2,
                "validators": ["nostr_relay.validators.is_not_too_large", "nostr_relay.validators.is_signed"],
            },
            "max_event_size": 65536,
            "max_limit": 6000,
            "message_timeout": 1800,
            "subscription_limit": 32,
            "gunicorn": {"bind": f"127.0.0.1:{self.port}", "workers": 1, "loglevel": "warning", "reload": False},
            "purple": {"host": "127.0.0.1", "port": self.port, "workers": 1},
            "authentication": {"enabled": False},
            "verification": {"nip05_verification": "disabled"},
        }

    def _await(self) -> None:
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            try:
                with urllib.request.urlopen(self.url.replace("ws", "http", 1), timeout=5):
                    return
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.1)
        said = (self._folder / "output").read_text(encoding="utf-8", errors="replace")[-2000:]
        raise RuntimeError(f"The relay did not start: {said}")

    def stop(self) -> None:
        process = getattr(self, "_process", None)
        if process is not None:
            process.terminate()
            process.wait(30)
        shutil.rmtree(self._folder, ignore_errors=True)


@lru_cache(maxsize=1)
def running() -> Relay:
    """The one relay of this process."""
    return Relay()
