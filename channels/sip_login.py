"""Answers to a PBX that asks for a password: digest authentication.

RFC 3261 section 22, with RFC 7616 (SHA-256, qop) and RFC 8760 (the first challenge that we know counts).
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from sipmessage import AuthCredentials, AuthParameters, Request, Response

Hash = Callable[[str | bytes], str]
ASKED = {401: ("WWW-Authenticate", "Authorization"), 407: ("Proxy-Authenticate", "Proxy-Authorization")}

# sipmessage 0.7.1 takes no comma within quotes, and qop="auth,auth-int" has one.
PARAMETER = re.compile(r'([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


def _hash(name: str) -> Hash:
    def digest(text: str | bytes) -> str:
        octets = text.encode() if isinstance(text, str) else text
        return hashlib.new(name, octets, usedforsecurity=False).hexdigest()

    return digest


HASHES: dict[str, Hash] = {
    algorithm: _hash(name)
    for algorithm, name in (("MD5", "md5"), ("SHA-256", "sha256"), ("SHA-512-256", "sha512_256"))
    if name in hashlib.algorithms_available
}


@dataclass(slots=True)
class Nonce:
    """A challenge that we can answer, and how often we have."""

    challenge: dict[str, str]
    client: str = field(default_factory=lambda: secrets.token_hex(8))
    count: int = 0

    @property
    def algorithm(self) -> str:
        return self.challenge.get("algorithm", "MD5").upper()

    @property
    def qop(self) -> str | None:
        """What is protected: "auth", or "auth-int" for the body too; "" as in RFC 2069; None for what we cannot do."""
        if "qop" not in self.challenge:
            return ""
        offered = re.split(r"[\s,]+", self.challenge["qop"].lower())
        return next((one for one in ("auth", "auth-int") if one in offered), None)


class Login:
    """One account. What the PBX asked for is kept, so that later requests need not be asked again."""

    def __init__(self, user: str, password: str) -> None:
        self._user, self._password = user, password
        self._nonces: dict[tuple[str, str], Nonce] = {}

    def learn(self, method: str, answer: Response) -> bool:
        """Take the challenge of a 401 or 407 for requests of this method; False when it cannot be answered."""
        asked, answered = ASKED[answer.code]
        for value in answer.headers.getlist(asked):
            nonce = read_challenge(value)
            if nonce is not None:
                self._nonces[method, answered] = nonce
                return True
        return False

    def knows(self, method: str) -> bool:
        """Whether requests of this method go out with credentials."""
        return any(one == method for one, _ in self._nonces)

    def sign(self, request: Request) -> None:
        for (method, header), nonce in self._nonces.items():
            if method == request.method:
                request.headers.set(header, str(self._credentials(nonce, method, str(request.uri), request.body)))

    def _credentials(self, nonce: Nonce, method: str, uri: str, body: bytes = b"") -> AuthCredentials:
        nonce.count += 1
        qop = nonce.qop
        told = nonce.challenge
        digest = HASHES[nonce.algorithm.removesuffix("-SESS")]
        secret = digest(f"{self._user}:{told['realm']}:{self._password}")
        if nonce.algorithm.endswith("-SESS"):
            secret = digest(f"{secret}:{told['nonce']}:{nonce.client}")
        what = digest(f"{method}:{uri}" + (f":{digest(body)}" if qop == "auth-int" else ""))
        values = {"username": self._user, "realm": told["realm"], "nonce": told["nonce"], "uri": uri}
        if qop:
            count = f"{nonce.count:08x}"
            values["response"] = digest(f"{secret}:{told['nonce']}:{count}:{nonce.client}:{qop}:{what}")
            values |= {"qop": qop, "nc": count, "cnonce": nonce.client}
        else:
            values["response"] = digest(f"{secret}:{told['nonce']}:{what}")
        values |= {name: told[name] for name in ("algorithm", "opaque") if name in told}
        return AuthCredentials("Digest", AuthParameters(**values))


def read_challenge(value: str) -> Nonce | None:
    """What a challenge asks, when it is one that we can answer."""
    scheme, _, rest = value.strip().partition(" ")
    told = {name.lower(): re.sub(r"\\(.)", r"\1", quoted or token) for name, quoted, token in PARAMETER.findall(rest)}
    nonce = Nonce(told)
    if scheme.lower() != "digest" or not {"realm", "nonce"} <= told.keys():
        return None
    if nonce.qop is None:
        return None
    return nonce if nonce.algorithm.removesuffix("-SESS") in HASHES else None


def stale(answer: Response) -> bool:
    """Whether the password was right and only the challenge too old (RFC 7616, section 3.3)."""
    challenges = answer.headers.getlist(ASKED[answer.code][0])
    return any(re.search(r'\bstale\s*=\s*"?true', value, re.IGNORECASE) for value in challenges)
