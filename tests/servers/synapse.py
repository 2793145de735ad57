"""Synapse, the Matrix homeserver of the Matrix foundation's makers, in a virtual environment of its own.

It is installed from PyPI on first use, which takes minutes, and kept in the user's cache folder:
`PYTHONPATH=tests python -m servers.synapse` does that alone.
"""

from __future__ import annotations

import atexit
import base64
import hashlib
import hmac
import json
import secrets
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from functools import lru_cache
from pathlib import Path
from typing import Any

from servers.apart import free_port, installed

VERSION = "1.163.2"
SECRET = "only for tests"
READY_SECONDS = 120
NAME = "roost.test"
MANY = {"per_second": 100_000, "burst_count": 100_000}

Json = dict[str, Any]


class Synapse:
    """A running homeserver at `url`, without federation, limits of rate or the outside world."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="synapse-"))
        atexit.register(self.stop)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        config = self._folder / "homeserver.yaml"
        config.write_text(json.dumps(self._config()), encoding="utf-8")
        (self._folder / "log.yaml").write_text(json.dumps(self._logging()), encoding="utf-8")
        seed = base64.b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        (self._folder / "signing.key").write_text(f"ed25519 a_test {seed}\n", encoding="utf-8")
        command = [str(installed("matrix-synapse", VERSION)), "-m", "synapse.app.homeserver", "-c", str(config)]
        with (self._folder / "output").open("wb") as output:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=output, stderr=output)
        self._await()

    def _config(self) -> Json:
        """https://element-hq.github.io/synapse/latest/usage/configuration/config_documentation.html"""
        folder = str(self._folder)
        listener = {"port": self.port, "type": "http", "bind_addresses": ["127.0.0.1"], "resources": []}
        limits = ("rc_message", "rc_registration", "rc_admin_redaction", "rc_joins_per_room")
        return {
            "server_name": NAME,
            "listeners": [listener | {"resources": [{"names": ["client", "media"], "compress": False}]}],
            "database": {"name": "sqlite3", "args": {"database": ":memory:"}},
            "log_config": f"{folder}/log.yaml",
            "media_store_path": f"{folder}/media",
            "signing_key_path": f"{folder}/signing.key",
            "pid_file": f"{folder}/pid",
            "registration_shared_secret": SECRET,
            "report_stats": False,
            "presence": {"enabled": False},
            "bcrypt_rounds": 4,
            "trusted_key_servers": [],
            "federation_domain_whitelist": [],
            "allow_public_rooms_over_federation": False,
            "url_preview_enabled": False,
            "filter_timeline_limit": 5000,
            **dict.fromkeys(limits, MANY),
            "rc_login": dict.fromkeys(("address", "account", "failed_attempts"), MANY),
            "rc_joins": {"local": MANY, "remote": MANY},
            "rc_invites": dict.fromkeys(("per_room", "per_user", "per_issuer"), MANY),
            "rc_key_requests": MANY,
            "rc_presence": {"per_user": MANY},
        }

    def _logging(self) -> Json:
        to_file = {"class": "logging.FileHandler", "filename": str(self._folder / "homeserver.log")}
        return {"version": 1, "handlers": {"file": to_file}, "root": {"level": "WARNING", "handlers": ["file"]}}

    def _await(self) -> None:
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        said = (self._folder / "output").read_text(encoding="utf-8", errors="replace")[-2000:]
        raise RuntimeError(f"Synapse did not start: {said}")

    def stop(self) -> None:
        process = getattr(self, "_process", None)
        if process is not None:
            process.terminate()
            process.wait(30)
        shutil.rmtree(self._folder, ignore_errors=True)

    def register(self, user: str, password: str) -> Json:
        """Make an account; returns what a login does: user_id, access_token, device_id.

        https://element-hq.github.io/synapse/latest/admin_api/register_api.html
        """
        path = "/_synapse/admin/v1/register"
        nonce = self.ask("GET", path)["nonce"]
        parts = (nonce, user, password, "notadmin")
        mac = hmac.new(SECRET.encode(), "\0".join(parts).encode(), hashlib.sha1).hexdigest()
        account = {"nonce": nonce, "username": user, "password": password, "admin": False, "mac": mac}
        return self.ask("POST", path, account)

    def ask(self, method: str, path: str, body: Json | None = None) -> Json:
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            said: Json = json.load(answer)
            return said


@lru_cache(maxsize=1)
def running() -> Synapse:
    """The one homeserver of this process."""
    return Synapse()


if __name__ == "__main__":
    print(installed("matrix-synapse", VERSION))
