"""The real Mumble server, started once for all tests of a session."""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from servers.inspircd import certificate, free_ports, wait_for_port

PASSWORD = "correct-horse"
ADMIN = "battery-staple"
PROGRAMS = (("murmurd", "mumble-server"),)
NUMBERS = itertools.count(1)
USER = "mumble-server"


class Murmur:
    """One server on the loopback interface, with a password, and without limits on how fast one may write."""

    def __init__(self, **settings: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mumble-"))
        self.folder.chmod(0o755)
        (self.port,) = free_ports(1)
        certificate(self.folder / "server", "localhost")
        for one in self.folder.glob("server.*"):
            one.chmod(0o644)
        self._ini = self.folder / "murmur.ini"
        known = {"database": str(self.folder / "murmur.sqlite"), "host": "127.0.0.1", "port": str(self.port)}
        known |= {"sslCert": str(self.folder / "server.pem"), "sslKey": str(self.folder / "server.key")}
        known |= {"serverpassword": PASSWORD, "logfile": "", "bonjour": "False", "autobanAttempts": "0"}
        known |= {"messageburst": "100000", "messagelimit": "100000", "users": "100", **settings}
        self._ini.write_text("".join(f"{name}={value}\n" for name, value in known.items()))
        if os.geteuid() == 0:
            shutil.chown(self.folder, USER)
        subprocess.run([*as_user(), "murmurd", "-ini", self._ini, "-supw", ADMIN], check=True, capture_output=True)
        atexit.register(self.stop)
        command = [*as_user(), "murmurd", "-fg", "-ini", self._ini]
        with (self.folder / "log").open("wb") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out)
        wait_for_port(self.port)

    @property
    def version(self) -> str:
        told = subprocess.run(["murmurd", "-version"], capture_output=True, text=True, check=False)
        return "mumble-server " + (told.stdout + told.stderr).split(" -- ")[-1].strip()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.stop)


def as_user() -> list[str]:
    """It does not run as root."""
    return ["runuser", "-u", USER, "--"] if os.geteuid() == 0 else []


@cache
def murmur() -> Murmur:
    return Murmur()
