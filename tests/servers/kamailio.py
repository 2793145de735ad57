"""The real Kamailio, started once for all tests: a registrar that keeps messages for those who are away."""

from __future__ import annotations

import atexit
import itertools
import shutil
import socket
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from servers.inspircd import certificate, wait_for_port

PASSWORD = "correct-horse"
PROGRAMS = (("kamailio", "kamailio"),)
NUMBERS = itertools.count(1)


class Kamailio:
    """Every name is an account, with the password that all have here. UDP and TCP on one port of the loopback.

    With `tls` it also listens on `tls_port`, with a certificate in `folder`/server.pem; that takes the Debian package
    kamailio-tls-modules. `algorithm` is that of its challenges: MD5 or SHA-256.
    """

    def __init__(self, algorithm: str = "MD5", tls: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sip-"))
        self.port, self.tls_port = free_port(), free_port()
        self.algorithm = algorithm
        (self.folder / "db").mkdir()
        (self.folder / "db" / "version").write_text("table_name(string) table_version(int)\nsilo:8\n")
        (self.folder / "db" / "silo").write_text(SILO)
        configuration = (TLS if tls else "") + CONFIGURATION
        if tls:
            certificate(self.folder / "server", "localhost")
        for name, value in {
            "PORT": self.port,
            "TLS": self.tls_port,
            "FOLDER": self.folder,
            "ALGORITHM": algorithm,
            "PASSWORD": PASSWORD,
        }.items():
            configuration = configuration.replace(f"@{name}@", str(value))
        (self.folder / "k.cfg").write_text(configuration)
        atexit.register(self.stop)
        self._start()

    @property
    def version(self) -> str:
        told = subprocess.run(["kamailio", "-v"], capture_output=True, text=True, check=True).stdout
        return f"Kamailio {told.split()[2]}"

    def _start(self) -> None:
        where = ["-f", str(self.folder / "k.cfg"), "-Y", str(self.folder)]
        command = ["kamailio", "-DD", "-E", *where, "-m", "64", "-M", "8"]
        with (self.folder / "log").open("ab") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        wait_for_port(self.port)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def kamailio(algorithm: str = "MD5", tls: bool = False) -> Kamailio:
    return Kamailio(algorithm, tls)


def free_port() -> int:
    """A port that is free for UDP and TCP."""
    while True:
        with socket.socket(type=socket.SOCK_DGRAM) as datagrams, socket.socket() as streams:
            datagrams.bind(("127.0.0.1", 0))
            port = datagrams.getsockname()[1]
            try:
                streams.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(port)


SILO = (
    "id(int,auto) src_addr(string) dst_addr(string) username(string) domain(string) inc_time(int) exp_time(int) "
    "snd_time(int) ctype(string) body(string,null) extra_hdrs(string,null) callid(string,null) status(int,null)\n"
)

TLS = """
enable_tls=yes
listen=tls:127.0.0.1:@TLS@
loadmodule "tls.so"
modparam("tls", "tls_method", "TLSv1.2+")
modparam("tls", "private_key", "@FOLDER@/server.key")
modparam("tls", "certificate", "@FOLDER@/server.pem")
"""

# One process takes datagrams, so that what comes in order stays in order. Challenges are good for a minute, and each
# request must count on: a nonce is not used twice with the same number. It keeps what a phone does not answer within
# three seconds, and brings it when the phone says where it is.
CONFIGURATION = """
debug=1
log_stderror=yes
fork=yes
children=1
tcp_children=1
auto_aliases=no
dns=no
rev_dns=no
listen=udp:127.0.0.1:@PORT@
listen=tcp:127.0.0.1:@PORT@
loadmodule "tm.so"
loadmodule "tmx.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
loadmodule "sanity.so"
loadmodule "db_text.so"
loadmodule "msilo.so"
modparam("tm", "fr_timer", 3000)
modparam("usrloc", "db_mode", 0)
modparam("registrar", "min_expires", 1)
modparam("registrar", "max_contacts", 4)
modparam("auth", "nonce_expire", 60)
modparam("auth", "nonce_count", 1)
modparam("auth", "qop", "auth")
modparam("auth", "algorithm", "@ALGORITHM@")
modparam("msilo", "db_url", "text://@FOLDER@/db")
modparam("msilo", "outbound_proxy", "sip:127.0.0.1:@PORT@")
modparam("msilo", "add_date", 0)

request_route {
    if (!mf_process_maxfwd_header("10")) { sl_send_reply("483", "Too Many Hops"); exit; }
    if (!sanity_check("17895", "7")) { exit; }
    force_rport();
    if (t_precheck_trans()) { t_check_trans(); exit; }
    t_check_trans();
    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    if (is_method("REGISTER")) {
        if ($au == "nobody" || !pv_www_authenticate("127.0.0.1", "@PASSWORD@", "0")) {
            www_challenge("127.0.0.1", "1");
            exit;
        }
        if ($au != $tU) { sl_send_reply("403", "Not You"); exit; }
        if (save("location")) { m_dump(); }
        exit;
    }
    if (!is_method("MESSAGE")) { sl_send_reply("405", "Method Not Allowed"); exit; }
    if (msg:len > 65000) { sl_send_reply("513", "Message Too Large"); exit; }
    if (src_ip != 127.0.0.1 || $sp != @PORT@) {
        if (!pv_proxy_authenticate("127.0.0.1", "@PASSWORD@", "0")) {
            proxy_challenge("127.0.0.1", "1");
            exit;
        }
        if ($au != $fU) { sl_send_reply("403", "Not You"); exit; }
        consume_credentials();
    }
    if ($rU =~ "^busy") { append_to_reply("Retry-After: 7 (in a talk)\\r\\n"); }
    if ($rU =~ "^full") { append_to_reply("Retry-After: 120\\r\\n"); }
    if ($rU =~ "^nobody") { sl_send_reply("404", "Not Found"); exit; }
    if ($rU =~ "^busy") { sl_send_reply("486", "Busy Here"); exit; }
    if ($rU =~ "^away") { sl_send_reply("480", "Temporarily Unavailable"); exit; }
    if ($rU =~ "^slow") { sl_send_reply("408", "Request Timeout"); exit; }
    if ($rU =~ "^full") { sl_send_reply("503", "Service Unavailable"); exit; }
    if (!lookup("location")) { route(KEEP); exit; }
    t_on_failure("AWAY");
    if (!t_relay()) { sl_reply_error(); }
}

route[KEEP] {
    if (!t_newtran()) { sl_reply_error(); exit; }
    if (m_store("$tu")) { t_reply("202", "Accepted"); } else { t_reply("503", "Service Unavailable"); }
}

failure_route[AWAY] {
    if (t_is_canceled()) { exit; }
    if (t_check_status("408|480|503")) {
        if (m_store("$tu")) { t_reply("202", "Accepted"); }
    }
}
"""
