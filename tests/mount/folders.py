"""Reading folders by the C library's own calls, whose positions Python hides; and renameat2(2)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

AT_FDCWD = -100
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

_libc = ctypes.CDLL(None, use_errno=True)


class _Dirent(ctypes.Structure):
    _fields_ = (
        ("d_ino", ctypes.c_uint64),
        ("d_off", ctypes.c_int64),
        ("d_reclen", ctypes.c_uint16),
        ("d_type", ctypes.c_uint8),
        ("d_name", ctypes.c_char * 256),
    )


_libc.opendir.restype = ctypes.c_void_p
_libc.opendir.argtypes = (ctypes.c_char_p,)
_libc.readdir.restype = ctypes.POINTER(_Dirent)
_libc.readdir.argtypes = (ctypes.c_void_p,)
_libc.telldir.restype = ctypes.c_long
_libc.telldir.argtypes = (ctypes.c_void_p,)
_libc.seekdir.restype = None
_libc.seekdir.argtypes = (ctypes.c_void_p, ctypes.c_long)
_libc.rewinddir.restype = None
_libc.rewinddir.argtypes = (ctypes.c_void_p,)
_libc.closedir.argtypes = (ctypes.c_void_p,)


class OpenFolder:
    """An opened folder with its position. Names come as str, without "." and ".."."""

    def __init__(self, path: Path) -> None:
        self._stream = _libc.opendir(os.fsencode(path))
        if not self._stream:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))

    def __enter__(self) -> OpenFolder:
        return self

    def __exit__(self, *_: object) -> None:
        _libc.closedir(self._stream)

    def __iter__(self) -> Iterator[str]:
        while True:
            ctypes.set_errno(0)
            entry = _libc.readdir(self._stream)
            if not entry:
                if ctypes.get_errno():
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
                return
            name = os.fsdecode(entry.contents.d_name)
            if name not in (".", ".."):
                yield name

    def tell(self) -> int:
        """The position behind the entry that was read last."""
        return int(_libc.telldir(self._stream))

    def seek(self, position: int) -> None:
        """Go on at a position that `tell` gave."""
        _libc.seekdir(self._stream, position)

    def rewind(self) -> None:
        """Begin again, with what is there now."""
        _libc.rewinddir(self._stream)


def renameat2(source: Path, target: Path, flags: int) -> None:
    """renameat2(2). Raises OSError."""
    done = _libc.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flags)
    if done:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(target))
