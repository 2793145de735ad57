"""The C library toxcore, by ctypes: what of it the channel uses.

https://github.com/TokTok/c-toxcore/blob/v0.2.18/toxcore/tox.h. A Tox is not thread safe: one thread owns it. Its
callbacks come while that thread is in `iterate`.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import logging
from collections.abc import Callable, Mapping
from ctypes import POINTER, c_bool, c_char_p, c_int, c_size_t, c_uint16, c_uint32, c_uint64, c_void_p
from typing import Any

from roost.errors import ChannelError, LoginFailed

log = logging.getLogger(__name__)

KEY, ADDRESS, GROUP = 32, 38, 32  # bytes
MESSAGE = 1372  # TOX_MAX_MESSAGE_LENGTH, bytes
NONE = 0xFFFF_FFFF  # what a call answers that failed
NAMES = ("libtoxcore.so.2", "libtoxcore.2.dylib", "libtoxcore.dylib", "libtoxcore.dll", "toxcore.dll")
LOAD_ENCRYPTED, BAD_FORMAT = 8, 9  # Tox_Err_New
# Tox_Err_Friend_Send_Message, and the same numbers in Tox_Err_File_Send but for the queue.
NO_FRIEND, OFFLINE, FULL = 2, 3, 4
NAME_LENGTH, STATUS_LENGTH = 128, 1007

_P, _N, _Bytes = c_void_p, c_uint32, c_char_p
_Error = POINTER(c_int)
# Name -> what it returns, and what it takes after the Tox itself.
CALLS: dict[str, tuple[Any, list[Any]]] = {
    "kill": (None, []),
    "iterate": (None, [_P]),
    "iteration_interval": (_N, []),
    "bootstrap": (c_bool, [_Bytes, c_uint16, _Bytes, _Error]),
    "add_tcp_relay": (c_bool, [_Bytes, c_uint16, _Bytes, _Error]),
    "get_savedata_size": (c_size_t, []),
    "get_savedata": (None, [_Bytes]),
    "self_get_connection_status": (c_int, []),
    "self_get_address": (None, [_Bytes]),
    "self_set_name": (c_bool, [_Bytes, c_size_t, _Error]),
    "self_set_status_message": (c_bool, [_Bytes, c_size_t, _Error]),
    "self_set_typing": (c_bool, [_N, c_bool, _Error]),
    "friend_add_norequest": (_N, [_Bytes, _Error]),
    "friend_by_public_key": (_N, [_Bytes, _Error]),
    "friend_get_public_key": (c_bool, [_N, _Bytes, _Error]),
    "friend_get_connection_status": (c_int, [_N, _Error]),
    "friend_get_name_size": (c_size_t, [_N, _Error]),
    "friend_get_name": (c_bool, [_N, _Bytes, _Error]),
    "friend_send_message": (_N, [_N, c_int, _Bytes, c_size_t, _Error]),
    "file_control": (c_bool, [_N, _N, c_int, _Error]),
    "file_send": (_N, [_N, _N, c_uint64, _Bytes, _Bytes, c_size_t, _Error]),
    "file_send_chunk": (c_bool, [_N, _N, c_uint64, _Bytes, c_size_t, _Error]),
    "conference_join": (_N, [_N, _Bytes, c_size_t, _Error]),
    "conference_by_id": (_N, [_Bytes, _Error]),
    "conference_get_id": (c_bool, [_N, _Bytes]),
    "conference_send_message": (c_bool, [_N, c_int, _Bytes, c_size_t, _Error]),
    "conference_peer_number_is_ours": (c_bool, [_N, _N, _Error]),
    "conference_peer_get_public_key": (c_bool, [_N, _N, _Bytes, _Error]),
    "conference_peer_get_name_size": (c_size_t, [_N, _N, _Error]),
    "conference_peer_get_name": (c_bool, [_N, _N, _Bytes, _Error]),
}
# Name -> what the callback is given between the Tox and the user's data.
CALLBACKS: dict[str, list[Any]] = {
    "self_connection_status": [c_int],
    "friend_request": [_P, _P, c_size_t],
    "friend_connection_status": [_N, c_int],
    "friend_message": [_N, c_int, _P, c_size_t],
    "friend_read_receipt": [_N, _N],
    "conference_invite": [_N, c_int, _P, c_size_t],
    "conference_message": [_N, _N, c_int, _P, c_size_t],
    "file_recv": [_N, _N, _N, c_uint64, _P, c_size_t],
    "file_recv_control": [_N, _N, c_int],
    "file_recv_chunk": [_N, _N, c_uint64, _P, c_size_t],
    "file_chunk_request": [_N, _N, c_uint64, c_size_t],
}
ABSENT = (
    "The library toxcore is not installed on this machine. Install it: 'apt install libtoxcore2' on Debian and Ubuntu, "
    "'brew install toxcore' on macOS; on Windows put libtoxcore.dll on the PATH. Or remove [channels.{name}] from "
    "bot.toml."
)


class Failed(ChannelError):
    """A call of toxcore's failed; `code` is its own number for why."""

    def __init__(self, call: str, code: int) -> None:
        super().__init__(f"toxcore refused tox_{call} (error {code}).")
        self.code = code


def load(name: str) -> ctypes.CDLL:
    """The library. Raises LoginFailed when it is not there, or too old."""
    for file in (ctypes.util.find_library("toxcore"), *NAMES):
        try:
            library = ctypes.CDLL(file) if file else None
        except OSError:
            continue
        if library is not None:
            return typed(library, name)
    raise LoginFailed(ABSENT.format(name=name))


def typed(library: ctypes.CDLL, name: str) -> ctypes.CDLL:
    try:
        for call, (result, takes) in CALLS.items():
            function = getattr(library, f"tox_{call}")
            function.restype, function.argtypes = result, [_P, *takes]
        for call in CALLBACKS:
            getattr(library, f"tox_callback_{call}").argtypes = [_P, _P]
            getattr(library, f"tox_callback_{call}").restype = None
        library.tox_options_new.restype, library.tox_options_new.argtypes = _P, [_Error]
        library.tox_options_free.restype, library.tox_options_free.argtypes = None, [_P]
        library.tox_new.restype, library.tox_new.argtypes = _P, [_P, _Error]
        for option, kind in (("udp_enabled", c_bool), ("local_discovery_enabled", c_bool), ("savedata_type", c_int)):
            getattr(library, f"tox_options_set_{option}").argtypes = [_P, kind]
        library.tox_options_set_savedata_data.argtypes = [_P, _Bytes, c_size_t]
    except AttributeError as error:
        raise LoginFailed(
            f"The library toxcore on this machine is too old for [channels.{name}] in bot.toml ({error}). "
            "Install 0.2.18 or newer."
        ) from error
    return library


class Tox:
    """One Tox. Every method is for the thread that owns it. Raises LoginFailed for a profile that cannot be read."""

    def __init__(self, name: str, profile: bytes, *, udp: bool, local: bool) -> None:
        self._library = load(name)
        self._kept: list[Any] = []
        self._tox = self._new(name, profile, udp, local)

    def _new(self, name: str, profile: bytes, udp: bool, local: bool) -> Any:
        library, code = self._library, c_int()
        options = library.tox_options_new(None)
        library.tox_options_set_udp_enabled(options, udp)
        library.tox_options_set_local_discovery_enabled(options, local)
        if profile:
            library.tox_options_set_savedata_type(options, 1)
            library.tox_options_set_savedata_data(options, profile, len(profile))
        tox = library.tox_new(options, ctypes.byref(code))
        library.tox_options_free(options)
        # A profile of which only a part could be read makes a Tox too: that would be somebody else.
        if code.value in (LOAD_ENCRYPTED, BAD_FORMAT):
            if tox:
                library.tox_kill(tox)
            raise LoginFailed(
                f"The Tox profile of [channels.{name}] in bot.toml, the file 'profile.tox' in the channel's folder, "
                f"{'is encrypted' if code.value == LOAD_ENCRYPTED else 'is damaged'}. Put a readable copy there, or "
                "remove it, and the bot gets a new Tox ID."
            )
        if not tox:
            raise Failed("new", code.value)
        return tox

    def listen(self, callbacks: Mapping[str, Callable[..., None]]) -> None:
        """Have functions called with what toxcore tells, without the Tox and the user's data."""
        for name, function in callbacks.items():
            kind = ctypes.CFUNCTYPE(None, _P, *CALLBACKS[name], _P)
            callback = kind(guarded(name, function))
            self._kept.append(callback)
            getattr(self._library, f"tox_callback_{name}")(self._tox, ctypes.cast(callback, _P))

    def call(self, name: str, *values: Any) -> Any:
        """Call `tox_NAME`. Raises Failed where toxcore says that it failed."""
        function = getattr(self._library, f"tox_{name}")
        if CALLS[name][1][-1:] != [_Error]:
            return function(self._tox, *values)
        code = c_int()
        result = function(self._tox, *values, ctypes.byref(code))
        if code.value:
            raise Failed(name, code.value)
        return result

    def read(self, name: str, size: int, *values: Any) -> bytes:
        """What a call writes into a buffer of so many bytes."""
        buffer = ctypes.create_string_buffer(max(1, size))
        self.call(name, *values, buffer)
        return buffer.raw[:size]

    def text(self, name: str, *values: Any) -> str:
        """What `tox_NAME` writes, of the size that `tox_NAME_size` tells."""
        return decoded(self.read(name, self.call(f"{name}_size", *values), *values))

    def profile(self) -> bytes:
        """The secret key, the friends and groups, and known nodes."""
        return self.read("get_savedata", self.call("get_savedata_size"))

    def kill(self) -> None:
        self.call("kill")
        self._kept.clear()


def guarded(name: str, function: Callable[..., None]) -> Callable[..., None]:
    """An exception must not leave a callback: C could not hand it on."""

    def call(_tox: Any, *values: Any) -> None:
        try:
            function(*values[:-1])
        except Exception:
            log.exception("What toxcore told with '%s' could not be used.", name)

    return call


def content(pointer: Any, length: int) -> bytes:
    """The bytes that a callback is given."""
    return ctypes.string_at(pointer, length) if pointer and length else b""


def decoded(content: bytes) -> str:
    return content.decode("utf-8", "replace").replace("\x00", "")
