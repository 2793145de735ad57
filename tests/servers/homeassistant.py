"""Home Assistant itself, in a virtual environment of its own: 560 MB, which takes a minute or two.

2024.3 is the last that runs on Python 3.11. It is kept in the user's cache folder, or in ROOST_TEST_SERVERS;
`PYTHONPATH=tests python -m servers.homeassistant` installs it and does no more.
"""

from __future__ import annotations

import atexit
import base64
import hashlib
import hmac
import itertools
import json
import re
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

from servers import apart
from servers.apart import free_port

VERSION = "2024.3.3"
# What the integrations below ask for in their manifests, which Home Assistant would fetch when it starts.
MORE = (
    "aiohttp_cors==0.7.0",
    "aiohttp-fast-url-dispatcher==0.3.0",
    "aiohttp-zlib-ng==0.3.1",
    "fnv-hash-fast==0.5.0",
    "ha-ffmpeg==3.1.0",
    "hassil==1.6.1",
    "home-assistant-frontend==20240307.0",
    "home-assistant-intents==2024.3.12",
    "janus==1.0.0",
    "josepy<2",
    "mutagen==1.47.0",
    "numpy==1.26.0",
    "pillow==10.2.0",
    "psutil-home-assistant==0.0.1",
    "PyNaCl==1.5.0",
    "securetar==2024.2.1",
    "SQLAlchemy==2.0.27",
)
READY_SECONDS = 120
PEOPLE = ("Ann", "Bob", "Roost", "Guest")
ONLY_USERS = ("Bob", "Guest")
DECADE = 10 * 365 * 86400
NUMBERS = itertools.count(1)
PAGE = Path(__file__).parent.parent.parent / "docs" / "channels" / "homeassistant.md"

Json = dict[str, Any]


def installed() -> Path:
    """The Python that has it."""
    return apart.installed("homeassistant", VERSION, MORE)


class HomeAssistant:
    """A running house at `url`, where Ann and Roost may do everything, and Bob and Guest are mere users.

    `more` is YAML for its configuration.yaml. It was set up before: its accounts and their long-lived tokens are on
    its disk when it starts.
    """

    def __init__(self, more: str = "") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="homeassistant-"))
        atexit.register(self.stop)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.users = {name: secrets.token_hex(16) for name in PEOPLE}
        self.tokens: dict[str, str] = {}
        self._write(more)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def _write(self, more: str) -> None:
        storage = self.folder / ".storage"
        storage.mkdir()
        auth = {"version": 1, "minor_version": 1, "key": "auth", "data": self._accounts()}
        (storage / "auth").write_text(json.dumps(auth), encoding="utf-8")
        # YAML holds JSON.
        page = [f"{name}: {json.dumps(keys)}" for name, keys in self._configuration().items()]
        (self.folder / "configuration.yaml").write_text("\n".join([*page, more]), encoding="utf-8")

    def _configuration(self) -> Json:
        """https://www.home-assistant.io/docs/configuration/"""
        people = [{"id": name.lower(), "name": name, "user_id": self.users[name]} for name in ("Ann", "Bob")]
        return {
            "homeassistant": {"name": "Home", "time_zone": "UTC", "unit_system": "metric", "country": "NL"},
            "http": {"server_host": "127.0.0.1", "server_port": self.port},
            "logger": {"default": "warning"},
            "api": None,
            "websocket_api": None,
            "conversation": None,
            "mobile_app": None,
            "person": people,
        }

    def _accounts(self) -> Json:
        """homeassistant/auth/auth_store.py"""
        users, tokens = [], []
        for name, id in self.users.items():
            group = "system-users" if name in ONLY_USERS else "system-admin"
            user = {"id": id, "name": name, "group_ids": [group], "is_owner": name == "Ann", "is_active": True}
            users.append(user | {"system_generated": False, "local_only": False})
            tokens.append(self._token(name, id))
        groups = [{"id": id, "name": id} for id in ("system-admin", "system-users", "system-read-only")]
        return {"users": users, "groups": groups, "credentials": [], "refresh_tokens": tokens}

    def _token(self, name: str, user: str) -> Json:
        id, secret, now = secrets.token_hex(16), secrets.token_hex(64), int(time.time())
        self.tokens[name] = signed({"iss": id, "iat": now, "exp": now + DECADE}, secret)
        created = "2024-03-01T00:00:00+00:00"
        kind = {"token_type": "long_lived_access_token", "client_id": None, "client_name": "tests"}
        more = {"access_token_expiration": float(DECADE), "token": secrets.token_hex(64), "created_at": created}
        return {"id": id, "user_id": user, "jwt_key": secret, "expire_at": None} | kind | more

    # Up and down

    def start(self) -> None:
        command = [str(installed()), "-m", "homeassistant", "--config", str(self.folder), "--skip-pip"]
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(command, cwd=self.folder, stdout=output, stderr=output)
        self._await()

    def _await(self) -> None:
        assert self._process is not None
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            try:
                if self.ask("GET", "/api/config")["state"] == "RUNNING":
                    return
            except OSError:
                pass
            time.sleep(0.1)
        said = (self.folder / "output").read_text(encoding="utf-8", errors="replace")[-3000:]
        raise RuntimeError(f"Home Assistant did not start: {said}")

    def halt(self) -> None:
        """End it; what is on its disk stays."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    def stop(self) -> None:
        self.halt()
        shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, method: str, path: str, body: Json | None = None, who: str = "Ann") -> Any:
        """https://developers.home-assistant.io/docs/api/rest/ ; raises urllib's HTTPError for a refusal."""
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.tokens[who]}"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            raw = answer.read()
        return json.loads(raw) if raw else None

    # Phones

    def phone(self, who: str, push_url: str) -> tuple[str, str]:
        """Register a companion app: its webhook's path and the service that its notifications go to.

        https://developers.home-assistant.io/docs/api/native-app-integration/setup
        """
        name = f"{who} {next(NUMBERS)}"
        app = {"app_id": "tests", "app_name": "Tests", "app_version": "1", "os_name": "tests", "os_version": "1"}
        device = {"device_id": name, "device_name": name, "manufacturer": "tests", "model": "tests"}
        push = {"app_data": {"push_token": name, "push_url": push_url}, "supports_encryption": False}
        made = self.ask("POST", "/api/mobile_app/registrations", app | device | push, who)
        service = "mobile_app_" + name.lower().replace(" ", "_")
        end = time.monotonic() + READY_SECONDS
        while service not in self.services("notify"):
            assert time.monotonic() < end, f"There is no service notify.{service}."
            time.sleep(0.02)
        return f"/api/webhook/{made['webhook_id']}", f"notify.{service}"

    def services(self, domain: str) -> set[str]:
        return {name for one in self.ask("GET", "/api/services") if one["domain"] == domain for name in one["services"]}


def signed(claims: Json, secret: str) -> str:
    """A JSON Web Token (RFC 7519), with HMAC-SHA256."""
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    mac = hmac.new(secret.encode(), text, hashlib.sha256).digest()
    return (text + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


@lru_cache(maxsize=1)
def running() -> HomeAssistant:
    """The one house of this process, with what our page tells people to put into its configuration."""
    page = PAGE.read_text(encoding="utf-8")
    return HomeAssistant("\n".join(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)))


if __name__ == "__main__":
    print(installed())
