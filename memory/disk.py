"""The few operations on files that durability rests on, in one place so that tests can pull the plug."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path
from typing import BinaryIO, cast

if sys.platform == "darwin":
    import fcntl


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class Disk:
    """Write, sync, truncate, rename and remove. Every method raises OSError when the system refuses."""

    def append(self, path: Path) -> BinaryIO:
        """Open for unbuffered appending; a file made here is its owner's alone (0600)."""
        return cast(BinaryIO, open(path, "ab", buffering=0, opener=_private))

    def write(self, file: BinaryIO, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]

    def sync(self, file: BinaryIO) -> None:
        """Return once the file's content survives a power cut, as far as the drive tells the truth."""
        if sys.platform == "darwin":
            # There, fsync(2) leaves the data in the drive's own cache.
            with contextlib.suppress(OSError):
                fcntl.fcntl(file.fileno(), fcntl.F_FULLFSYNC)
                return
        os.fsync(file.fileno())

    def truncate(self, file: BinaryIO, size: int) -> None:
        os.ftruncate(file.fileno(), size)

    def replace(self, source: Path, target: Path) -> None:
        source.replace(target)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def sync_folder(self, folder: Path) -> None:
        """Make renames and removals in `folder` survive a power cut, where the system can sync folders."""
        if sys.platform == "win32":
            return
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
                raise
        finally:
            os.close(descriptor)
