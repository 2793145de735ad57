"""The real Prosody, started once for all tests of a session."""

from __future__ import annotations

import atexit
import itertools
import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from servers.inspircd import certificate, free_ports, wait_for_port

HOST = "example.org"
PASSWORD = "correct-horse"
PROGRAMS = (("prosody", "prosody"),)
NUMBERS = itertools.count(1)


class Prosody:
    """One domain with rooms and a place for files, on the loopback interface; encryption is offered, not demanded.

    Without extensions it keeps no archives, takes no files, and knows no streams that go on.
    """

    def __init__(self, extensions: bool = True, archives: bool = True) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="xmpp-"))
        self.folder.chmod(0o755)
        self.port, self.tls_port, self.http_port = free_ports(3)
        certificate(self.folder / "server", HOST)
        (self.folder / "data" / "example%2eorg" / "accounts").mkdir(parents=True)
        self._configuration = self.folder / "prosody.cfg.lua"
        ports = {"port": self.port, "tls": self.tls_port, "http": self.http_port}
        text = CONFIGURATION % {"folder": self.folder, **ports}
        if not archives:
            text = re.sub(r'"(mam|muc_mam)",?', "", text)
        if not extensions:
            text = re.sub(r'"(mam|smacks|carbons|muc_mam)",?', "", text.partition('Component "upload')[0])
        self._configuration.write_text(text)
        self.log = self.folder / "prosody.log"
        atexit.register(self.stop)
        self.start()

    @property
    def version(self) -> str:
        told = re.search(r"Prosody version (\S+)", self.log.read_text())
        return f"Prosody {told[1]}" if told else "Prosody"

    def start(self) -> None:
        command = ["prosody", "--config", str(self._configuration), "-F"]
        root = ["--root"] if os.geteuid() == 0 else []
        with (self.folder / "prosody.out").open("ab") as out:
            self._process = subprocess.Popen([*command, *root], stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        wait_for_port(self.port)

    def halt(self) -> None:
        self._process.terminate()
        self._process.wait()

    def stop(self) -> None:
        self.halt()
        shutil.rmtree(self.folder, ignore_errors=True)

    def account(self, name: str) -> str:
        """Make an account with the password that all have here; returns its address."""
        accounts = self.folder / "data" / "example%2eorg" / "accounts"
        (accounts / f"{name}.dat").write_text(f'return {{ ["password"] = "{PASSWORD}"; }};\n')
        return f"{name}@{HOST}"


@cache
def prosody() -> Prosody:
    return Prosody()


CONFIGURATION = """
run_as_root = true
pidfile = "%(folder)s/prosody.pid"
data_path = "%(folder)s/data"
certificates = "%(folder)s"
interfaces = { "127.0.0.1" }
local_interfaces = { "127.0.0.1" }
c2s_ports = { %(port)s }
c2s_direct_tls_ports = { %(tls)s }
s2s_ports = { }
http_ports = { %(http)s }
https_ports = { }
modules_enabled = { "roster", "saslauth", "tls", "disco", "ping", "pep", "offline", "mam", "smacks", "carbons",
    "presence" }
modules_disabled = { "s2s" }
authentication = "internal_plain"
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
storage = "internal"
default_archive_policy = true
archive_expires_after = "1d"
smacks_hibernation_time = 30
limits = { }
log = { info = "%(folder)s/prosody.log" }
ssl = { certificate = "%(folder)s/server.pem"; key = "%(folder)s/server.key" }
VirtualHost "example.org"
Component "conference.example.org" "muc"
    modules_enabled = { "muc_mam" }
    muc_room_locking = false
    muc_log_by_default = true
    max_history_messages = 50
Component "upload.example.org" "http_file_share"
    http_host = "127.0.0.1"
    http_external_url = "http://127.0.0.1:%(http)s/"
    http_file_share_size_limit = 1048576
    http_file_share_access = { "example.org" }
"""
