"""The real ejabberd, started once for all tests of a session: an Erlang runtime of its own, without `ejabberdctl`."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import tempfile
import urllib.request
from functools import cache
from pathlib import Path

from servers.inspircd import certificate, free_ports, wait_for_port
from servers.prosody import HOST, PASSWORD

PROGRAMS = (("/usr/lib/*/ejabberd-*/ebin/ejabberd.app", "ejabberd"),)
CODE = Path("/usr/lib")


class Ejabberd:
    """One domain with rooms, archives and a place for files, on the loopback interface."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ejabberd-"))
        self.port, self.tls_port, self.http_port = free_ports(3)
        certificate(self.folder / "server", HOST)
        ports = {"port": self.port, "tls": self.tls_port, "http": self.http_port}
        (self.folder / "ejabberd.yml").write_text(CONFIGURATION % {"folder": self.folder, **ports})
        self._code = min(CODE.glob("*/ejabberd-*"))
        atexit.register(self.stop)
        self.start()

    @property
    def version(self) -> str:
        return self._code.name.replace("-", " ", 1)

    def start(self) -> None:
        options = ["-noinput", "-boot", "start_clean", "-mnesia", "dir", f'"{self.folder}/database"', "-s", "ejabberd"]
        own = {
            "ERL_LIBS": str(self._code.parent),
            "ERL_CRASH_DUMP": str(self.folder / "crash"),
            "EJABBERD_CONFIG_PATH": str(self.folder / "ejabberd.yml"),
            "EJABBERD_LOG_PATH": str(self.folder / "ejabberd.log"),
            "HOME": str(self.folder),
        }
        with (self.folder / "ejabberd.out").open("ab") as out:
            self._process = subprocess.Popen(
                ["erl", *options], env={**os.environ, **own}, stdout=out, stderr=out, stdin=subprocess.DEVNULL
            )
        wait_for_port(self.port)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def account(self, name: str) -> str:
        """Make an account with the password that all have here; returns its address."""
        wanted = json.dumps({"user": name, "host": HOST, "password": PASSWORD}).encode()
        address = f"http://127.0.0.1:{self.http_port}/api/register"
        with urllib.request.urlopen(urllib.request.Request(address, wanted, {"Content-Type": "application/json"})):
            return f"{name}@{HOST}"


@cache
def ejabberd() -> Ejabberd:
    return Ejabberd()


# https://docs.ejabberd.im/admin/configuration/
CONFIGURATION = """
hosts: ["example.org"]
loglevel: warning
certfiles: ["%(folder)s/server.both"]
auth_method: internal
acme: {auto: false}
api_permissions:
  tests: {from: [mod_http_api], who: all, what: "register"}
listen:
  - {port: %(port)s, ip: "127.0.0.1", module: ejabberd_c2s, starttls: true, shaper: none}
  - {port: %(tls)s, ip: "127.0.0.1", module: ejabberd_c2s, tls: true, shaper: none}
  - port: %(http)s
    ip: "127.0.0.1"
    module: ejabberd_http
    request_handlers: {"/api": mod_http_api, "/upload": mod_http_upload}
modules:
  mod_caps: {}
  mod_carboncopy: {}
  mod_disco: {}
  mod_http_upload:
    put_url: "http://127.0.0.1:%(http)s/upload"
    docroot: "%(folder)s/files"
    max_size: 1048576
    access: all
  mod_mam: {default: always}
  mod_muc: {history_size: 50, default_room_options: {mam: true}}
  mod_offline: {}
  mod_ping: {}
  mod_pubsub: {plugins: [flat, pep]}
  mod_roster: {}
  mod_stream_mgmt: {resend_on_timeout: if_offline, resume_timeout: 30}
"""
