"""How many bytes went over a connection, as the system itself counts them: nothing is added to sending or receiving.

Linux: `struct tcp_info` (https://github.com/torvalds/linux/blob/master/include/uapi/linux/tcp.h, since 4.19). macOS:
`struct tcp_connection_info` (https://github.com/apple-oss-distributions/xnu/blob/main/bsd/netinet/tcp.h). Python can
ask Windows for no such thing, so there it is not known.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable


def traffic(sock: socket.socket) -> tuple[int, int] | None:
    """Bytes sent and received, encryption included; None where the system does not say. Raises OSError."""
    asked = ASKED.get(sys.platform)
    if asked is None:
        return None
    option, length, read = asked
    info = sock.getsockopt(socket.IPPROTO_TCP, option, length)
    return read(info) if len(info) == length else None


def on_linux(info: bytes) -> tuple[int, int]:
    """What was sent once, with what waits to be sent: it goes out after the connection was closed."""
    (received,) = struct.unpack_from("=Q", info, 128)
    (unsent,) = struct.unpack_from("=I", info, 144)
    sent, again = struct.unpack_from("=QQ", info, 200)
    return max(0, sent - again) + unsent, received


def on_macos(info: bytes) -> tuple[int, int]:
    """What was sent once. What still waits when a connection is closed is missing: it is not told apart."""
    sent, again = struct.unpack_from("=QQ", info, 64)
    (received,) = struct.unpack_from("=Q", info, 88)
    return max(0, sent - again), received


# What to ask for, how many bytes of it are needed, and how to read them.
ASKED: dict[str, tuple[int, int, Callable[[bytes], tuple[int, int]]]] = {
    "linux": (getattr(socket, "TCP_INFO", 11), 216, on_linux),
    "darwin": (0x106, 112, on_macos),  # TCP_CONNECTION_INFO
}
