"""Letting people in at the web face: one token, sessions that outlive a restart, few tries."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from base64 import b64encode
from collections import OrderedDict, deque
from collections.abc import Callable
from html import escape
from pathlib import Path

from roost.web_visitors import source

SESSION_SECONDS = 30 * 24 * 3600
TRIES = 5
TRY_SECONDS = 60.0
_ADDRESSES = 10_000


class Login:
    """Trade the token of `[web]` for a session, and know a session when it comes back.

    A session is `expiry.nonce.signature`, signed with a key made from the token: nothing is stored, a restart
    logs nobody out, and a new token logs out everybody. `clock` gives seconds since the epoch.
    """

    def __init__(self, token: str, clock: Callable[[], float] = time.time) -> None:
        self._token = token.encode()
        self._key = hashlib.sha256(b"roost web session\0" + self._token).digest()
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def matches(self, attempt: str) -> bool:
        """Compare in constant time, whatever the length of either."""
        ours, theirs = (hashlib.sha256(text).digest() for text in (self._token, _bytes(attempt)))
        return hmac.compare_digest(ours, theirs)

    def session(self) -> str:
        """Make a new session, good for SESSION_SECONDS."""
        body = f"{int(self._clock()) + SESSION_SECONDS}.{secrets.token_urlsafe(16)}"
        return f"{body}.{self._sign(body)}"

    def knows(self, session: str) -> bool:
        """Whether a session is one of ours and not over."""
        body, _, signature = session.rpartition(".")
        if not hmac.compare_digest(self._sign(body).encode(), _bytes(signature)):
            return False
        return int(body.partition(".")[0]) > self._clock()

    def patient(self, address: str) -> bool:
        """Whether another try is allowed from this address: fewer than TRIES failures in TRY_SECONDS."""
        failures = self._failures.get(source(address), deque())
        while failures and failures[0] <= self._clock() - TRY_SECONDS:
            failures.popleft()
        return len(failures) < TRIES

    def failed(self, address: str) -> None:
        """Count a wrong token against an address."""
        key = source(address)
        self._failures.setdefault(key, deque(maxlen=TRIES)).append(self._clock())
        self._failures.move_to_end(key)
        if len(self._failures) > _ADDRESSES:
            self._failures.popitem(last=False)

    def _sign(self, body: str) -> str:
        return hmac.new(self._key, _bytes(body), hashlib.sha256).hexdigest()


def _bytes(text: str) -> bytes:
    # A header that is not UTF-8 arrives with lone surrogates in it.
    return text.encode(errors="replace")


_PAGE = Path(__file__).with_name("login.html").read_text(encoding="utf-8")
_STYLE = _PAGE.partition("<style>")[2].partition("</style>")[0]

STYLE_HASH = f"'sha256-{b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
"""The page's own style, as a Content-Security-Policy source (CSP Level 3, section 2.3.1)."""


def login_page(note: str = "") -> str:
    """Write the page that asks for the token; `note` says why it is shown again."""
    return _PAGE.replace("{note}", escape(note))
