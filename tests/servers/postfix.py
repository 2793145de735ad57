"""Postfix, which takes mail, and Dovecot, which keeps it: any name at mail.test is an account, all have one password.

Both have settings, queues and mailboxes of their own in a folder that goes when the tests end, listen on the loopback
interface alone, and look up no names. Postfix starts as root only.

https://www.postfix.org/postconf.5.html https://doc.dovecot.org/2.3/settings/core/
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from servers.inspircd import free_ports, wait_for_port

PASSWORD = "secret"
PROGRAMS = (
    ("dovecot", "dovecot-imapd"),
    ("/usr/lib/dovecot/lmtp", "dovecot-lmtpd"),
    ("postfix", "postfix"),
)


@dataclass(frozen=True, slots=True)
class Ports:
    imap: int
    smtp: int
    lmtp: int
    auth: int


class Postbox:
    """Both servers, running."""

    def __init__(self) -> None:
        if os.geteuid() != 0:
            pytest.skip("Postfix starts as root only.")
        self.folder = Path(tempfile.mkdtemp(prefix="mail-"))
        self.folder.chmod(0o755)
        self.ports = Ports(*free_ports(4))
        self._processes: list[subprocess.Popen[bytes]] = []
        atexit.register(self.stop)
        self._run("dovecot", "-F", "-c", self._dovecot())
        self._run("postfix", "-c", self._postfix(), "start-fg")
        for port in (self.ports.imap, self.ports.lmtp, self.ports.auth, self.ports.smtp):
            wait_for_port(port)

    @property
    def version(self) -> str:
        told = subprocess.run(["dovecot", "--version"], capture_output=True, text=True, check=True).stdout
        mail = subprocess.run(["postconf", "-dh", "mail_version"], capture_output=True, text=True, check=True).stdout
        return f"Postfix {mail.strip()} and Dovecot {told.split()[0]}"

    def _run(self, *command: str | Path) -> None:
        with (self.folder / "output").open("ab") as out:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self._processes.append(process)

    def _dovecot(self) -> Path:
        mail = self.folder / "mail"
        mail.mkdir()
        shutil.chown(mail, "nobody", "nogroup")
        return self._write("dovecot.conf", DOVECOT)

    def _postfix(self) -> Path:
        """The folder of its settings."""
        for name in ("queue", "data"):
            (self.folder / name).mkdir(mode=0o755)
        shutil.chown(self.folder / "data", "postfix", "postfix")
        self._write("main.cf", MAIN)
        self._write("master.cf", MASTER)
        return self.folder

    def _write(self, name: str, text: str) -> Path:
        known = {"folder": self.folder, "password": PASSWORD}
        ports = {one: getattr(self.ports, one) for one in Ports.__slots__}
        path = self.folder / name
        path.write_text(text % {**known, **ports}, encoding="utf-8")
        return path

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
        # What was started is a script that waits for Postfix, and does not pass the signal on.
        master = self.folder / "queue" / "pid" / "master.pid"
        if master.exists():
            os.kill(int(master.read_text()), signal.SIGTERM)
        for process in self._processes:
            process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def running() -> Postbox:
    """The one of this process: accounts need not be made."""
    return Postbox()


DOVECOT = """
base_dir = %(folder)s/run
state_dir = %(folder)s/state
instance_name = %(folder)s
log_path = %(folder)s/dovecot.log
protocols = imap lmtp
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_failure_delay = 0
mail_location = maildir:%(folder)s/mail/%%Lu
mail_max_userip_connections = 100
postmaster_address = postmaster@mail.test
hostname = mail.test
first_valid_uid = 1
passdb {
  driver = static
  args = password=%(password)s
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=%(folder)s/mail/%%Lu allow_all_users=yes
}
namespace inbox {
  inbox = yes
}
service imap-login {
  service_count = 0
  inet_listener imap {
    port = %(imap)s
  }
  inet_listener imaps {
    port = 0
  }
}
service lmtp {
  inet_listener lmtp {
    address = 127.0.0.1
    port = %(lmtp)s
  }
}
service auth {
  inet_listener {
    address = 127.0.0.1
    port = %(auth)s
  }
}
"""
MAIN = """
compatibility_level = 3.6
queue_directory = %(folder)s/queue
data_directory = %(folder)s/data
maillog_file = %(folder)s/postfix.log
maillog_file_prefixes = %(folder)s
queue_minfree = 0
myhostname = mx.mail.test
mydestination =
mynetworks =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
disable_dns_lookups = yes
smtpd_peername_lookup = no
alias_maps =
alias_database =
local_recipient_maps =
virtual_mailbox_domains = mail.test
virtual_mailbox_maps = static:all
virtual_transport = lmtp:inet:127.0.0.1:%(lmtp)s
default_transport = error:There is no other place than mail.test
relay_transport = error:There is no other place than mail.test
message_size_limit = 50000000
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:127.0.0.1:%(auth)s
smtpd_recipient_restrictions = permit_sasl_authenticated, reject
smtpd_client_connection_count_limit = 0
"""
MASTER = """
127.0.0.1:%(smtp)s inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""
