"""A network of the real InspIRCd and Atheme services, started once for all tests of a session."""

from __future__ import annotations

import asyncio
import atexit
import datetime
import ipaddress
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

PASSWORD = "correct-horse"
PROGRAMS = (("inspircd", "inspircd"), ("atheme-services", "atheme-services"))
MODULES = [
    "botmode",
    "cap",
    "chanhistory",
    "cloaking",
    "ircv3",
    "ircv3_accounttag",
    "ircv3_batch",
    "ircv3_capnotify",
    "ircv3_ctctags",
    "ircv3_echomessage",
    "ircv3_labeledresponse",
    "ircv3_msgid",
    "ircv3_servertime",
    "sasl",
    "services_account",
    "spanningtree",
    "ssl_gnutls",
    "sslinfo",
]
NUMBERS = itertools.count(1)


class Network:
    """InspIRCd on two ports of the loopback interface, plain and encrypted, with services linked to it.

    Without modules it is a server as of old: no services, no encryption, no extensions.
    """

    def __init__(self, modules: Sequence[str] = MODULES) -> None:
        self._modules = modules
        self.folder = Path(tempfile.mkdtemp(prefix="irc-"))
        self.folder.chmod(0o755)
        self.port, self.tls_port, self.link_port = free_ports(3)
        certificate(self.folder / "server", "127.0.0.1")
        self._write_configuration()
        self._processes: list[subprocess.Popen[bytes]] = []
        atexit.register(self.stop)
        self._start("inspircd", "--config", str(self.folder / "inspircd.conf"), "--nofork", *as_root())
        wait_for_port(self.port)
        if modules:
            self._start_services()

    def _start_services(self) -> None:
        services = self.folder / "services"
        services.mkdir()
        owner: dict[str, Any] = {}
        if os.geteuid() == 0:  # Atheme does not run as root
            nobody = pwd.getpwnam("nobody")
            os.chown(services, nobody.pw_uid, nobody.pw_gid)
            owner = {"user": nobody.pw_uid, "group": nobody.pw_gid}
        files = ["-c", self.folder / "atheme.conf", "-D", services, "-l", services / "log", "-p", services / "pid"]
        self._start("atheme-services", "-n", *map(str, files), **owner)

    @property
    def version(self) -> str:
        told = subprocess.run(["inspircd", "--version"], capture_output=True, text=True, check=False).stdout
        return f"InspIRCd {told.split('InspIRCd-')[-1].split()[0].rstrip('.')}"

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, *command: str, **options: Any) -> None:
        log = (self.folder / f"{command[0]}.out").open("wb")
        # Where it dumps its core when it crashes as it ends, which InspIRCd 3.15 sometimes does.
        where = {"cwd": self.folder} if command[0] == "inspircd" else {}
        told: dict[str, Any] = {"stdout": log, "stderr": log, "stdin": subprocess.DEVNULL}
        self._processes.append(subprocess.Popen(command, **told, **where, **options))
        log.close()

    def _write_configuration(self) -> None:
        modules = "\n".join(f'<module name="{name}">' for name in self._modules)
        (self.folder / "inspircd.conf").write_text(
            INSPIRCD.format(
                folder=self.folder, port=self.port, tls_port=self.tls_port, link_port=self.link_port, modules=modules
            )
        )
        (self.folder / "motd.txt").write_text("Welcome.\n")
        (self.folder / "atheme.conf").write_text(ATHEME.format(link_port=self.link_port))
        (self.folder / "atheme.conf").chmod(0o644)

    async def account(self, nick: str) -> None:
        """Have services know an account of this name, with the password that all have here."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"NICK {nick}\r\nUSER someone 0 * :Someone\r\n".encode())
        register = f"PRIVMSG NickServ :REGISTER {PASSWORD} {nick}@example.org\r\n".encode()
        async with asyncio.timeout(60):
            while b" 900 " not in (line := await reader.readuntil(b"\n")):
                if line.startswith(b"PING"):
                    writer.write(b"PONG" + line[4:])
                elif b" 376 " in line:
                    writer.write(register)
                elif b" 401 " in line:  # services are not linked yet
                    await asyncio.sleep(0.05)
                    writer.write(register)
        writer.write(b"QUIT\r\n")
        await reader.read()
        writer.close()


@cache
def network() -> Network:
    return Network()


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_for_port(port: int, limit: float = 60.0) -> None:
    until = time.monotonic() + limit
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < until, f"Nothing listens on {port}."
            time.sleep(0.02)


def as_root() -> list[str]:
    return ["--runasroot"] if os.geteuid() == 0 else []


def certificate(path: Path, name: str) -> None:
    """A certificate that vouches for itself: `path`.pem, its key in `path`.key, both in `path`.both."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    local = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=7))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name), local]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for ending, content in {".pem": pem, ".key": secret, ".both": pem + secret}.items():
        path.with_suffix(ending).write_bytes(content)


INSPIRCD = """\
<config format="xml">
<server name="irc.example.org" description="tests" network="Tests" id="1AA">
<admin name="a" nick="a" email="a@example.org">
<bind address="127.0.0.1" port="{port}" type="clients">
<bind address="127.0.0.1" port="{tls_port}" type="clients" sslprofile="tls">
<bind address="127.0.0.1" port="{link_port}" type="servers">
<sslprofile name="tls" provider="gnutls" certfile="{folder}/server.pem" keyfile="{folder}/server.key"
    requestclientcert="yes" hash="sha1" mindhbits="1024">
<link name="services.example.org" ipaddr="127.0.0.1" port="{link_port}" allowmask="127.0.0.0/8" sendpass="link"
    recvpass="link">
<uline server="services.example.org" silent="yes">
<sasl target="services.example.org" requiressl="no">
<connect name="all" allow="*" timeout="60" pingfreq="120" hardsendq="64M" softsendq="64M" recvq="1M"
    threshold="1000000" commandrate="1000000000" fakelag="no" localmax="1000" globalmax="1000" maxchans="100"
    resolvehostnames="no">
<performance somaxconn="128" softlimit="12800" quietbursts="yes" clonesonconnect="yes">
<security hidesplits="no" maxtargets="20" operspywhois="no">
<options prefixquit="" defaultmodes="not" moronbanner="no" announcets="no">
<files motd="{folder}/motd.txt">
<pid file="{folder}/inspircd.pid">
<path datadir="{folder}" logdir="{folder}" runtimedir="{folder}">
<log method="file" type="* -USERINPUT -USEROUTPUT" level="default" target="{folder}/ircd.log">
<cloak mode="full" key="0123456789012345678901234567890123456789" prefix="net">
<chanhistory bots="yes" enableumode="no" maxlines="100" prefixmsg="no">
{modules}
"""

ATHEME = """
loadmodule "modules/protocol/inspircd";
loadmodule "modules/backend/opensex";
loadmodule "modules/crypto/pbkdf2v2";
loadmodule "modules/nickserv/main";
loadmodule "modules/nickserv/identify";
loadmodule "modules/nickserv/register";
loadmodule "modules/nickserv/enforce";
loadmodule "modules/nickserv/ghost";
loadmodule "modules/nickserv/cert";
loadmodule "modules/saslserv/main";
loadmodule "modules/saslserv/plain";
loadmodule "modules/saslserv/external";
crypto {{ pbkdf2v2_rounds = 10000; }};
serverinfo {{
    name = "services.example.org"; desc = "services"; numeric = "00A"; recontime = 1; netname = "Tests";
    adminname = "a"; adminemail = "a@example.org"; registeremail = "a@example.org"; auth = none;
    mta = "/bin/true"; loglevel = {{ error; info; }}; maxlogins = 100; maxusers = 0; maxnicks = 5;
    maxchans = 5; emaillimit = 1000; emailtime = 300; casemapping = ascii;
}};
uplink "irc.example.org" {{
    host = "127.0.0.1"; port = {link_port}; send_password = "link"; receive_password = "link";
}};
nickserv {{ nick = "NickServ"; user = "NickServ"; host = "services.example.org"; real = "NickServ"; }};
saslserv {{ nick = "SaslServ"; user = "SaslServ"; host = "services.example.org"; real = "SaslServ"; }};
general {{ commit_interval = 5; flood_msgs = 0; }};
"""
