"""Entry of the graph cache: a folder with a list of files and checksums, locked while in use.

```
<key>/entry.json      format, key, files: {name: SHA-256}
      NAME.onnx       graphs
      NAME.ID.blob    OpenVINO's compiled form (`openvino_cache`), with a checksum of its own
```
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import stat
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from gliclass_rerank.files.locks import NO_LINK, share_lock, try_lock
from gliclass_rerank.runtime.private_folder import is_trusted

LIST: Final = "entry.json"
_FORMAT: Final = 1
_BLOCK: Final = 1 << 20
_LONGEST_LIST: Final = 1 << 20
_held: Final[weakref.WeakSet[Entry]] = weakref.WeakSet()


class Entry:
    """Intact entry; no process removes it while this object lives.

    Args:
        folder: Folder of the entry.
        files: SHA-256 by file name.
        handle: Locked file descriptor of the list; closed with this object.

    Attributes:
        folder: Folder of the entry.
        files: SHA-256 by file name.
    """

    def __init__(self, folder: Path, files: Mapping[str, str], handle: int) -> None:
        self.folder = folder
        self.files = files
        weakref.finalize(self, os.close, handle)
        _held.add(self)


def seal(folder: Path, key: str) -> None:
    """Write the file list of a complete entry and make all its files private to this user."""
    files = {path.name: _digest_at(path) for path in sorted(folder.iterdir())}
    text = json.dumps({"format": _FORMAT, "key": key, "files": files}, indent=2)
    (folder / LIST).write_text(text + "\n", encoding="utf-8")
    for path in folder.iterdir():
        path.chmod(0o600)


def open_entry(folder: Path) -> Entry | None:
    """Verify and lock an entry; None if it is missing, damaged, misnamed or another user's."""
    try:
        if not stat.S_ISDIR(folder.lstat().st_mode) or not is_trusted(folder.lstat()):
            return None
        handle = os.open(folder / LIST, os.O_RDONLY | NO_LINK)
    except OSError:
        return None
    try:
        files = _files(handle, folder.name)
        if files and _share(handle, folder) and _are_intact(folder, files):
            entry = Entry(folder, files, handle)
            handle = -1
            return entry
    except OSError:
        return None
    finally:
        if handle >= 0:
            os.close(handle)
    return None


def remove_entry(folder: Path, *, in_use_too: bool = False) -> bool:
    """Remove an entry that is not in use, or anything else in its place.

    Args:
        folder: Entry folder. It is renamed first, so an entry never appears with some of its files.
        in_use_too: Remove it even if it is locked; for damaged entries.

    Returns:
        False if the entry is in use or another process removed it first.
    """
    with _unused(folder) as is_unused:
        if not (is_unused or in_use_too):
            return False
        going = folder.with_name(f".{folder.name.lstrip('.')}-{secrets.token_hex(4)}-removed")
        try:
            folder.rename(going)
        except OSError:  # also an open folder on Windows
            return False
    if going.is_symlink() or not going.is_dir():
        going.unlink()
    else:
        shutil.rmtree(going, ignore_errors=True)
    return True


def digest_of(path: Path) -> str:
    """SHA-256 of a file; read from the entry's list if the file belongs to an intact entry."""
    with suppress(OSError):
        handle = os.open(path.parent / LIST, os.O_RDONLY | NO_LINK)
        try:
            if found := _files(handle, path.parent.name).get(path.name):
                return found
        finally:
            os.close(handle)
    return _digest_at(path)


def _files(handle: int, key: str) -> dict[str, str]:
    """Parsed file list; empty if it does not match the key."""
    if not _is_plain(handle):
        return {}
    try:
        values = json.loads(os.read(handle, _LONGEST_LIST))
        files: dict[str, str] = values["files"]
        is_ours = values["format"] == _FORMAT and values["key"] == key
        well_formed = all(isinstance(digest, str) and Path(name).name == name for name, digest in files.items())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
    return files if is_ours and well_formed else {}


@contextmanager
def _unused(folder: Path) -> Iterator[bool]:
    """Yield True if an entry is unlocked; nobody can lock it inside the block."""
    if any(entry.folder == folder for entry in _held):
        yield False
        return
    try:
        handle = os.open(folder / LIST, os.O_RDONLY | NO_LINK)
    except OSError:
        yield True  # not an entry
        return
    try:
        yield try_lock(handle) is not False
    finally:
        os.close(handle)


def _share(handle: int, folder: Path) -> bool:
    """Take a shared lock on an entry's list; False if the entry was removed meanwhile."""
    share_lock(handle)
    return os.path.samestat(os.fstat(handle), (folder / LIST).lstat())


def _are_intact(folder: Path, files: Mapping[str, str]) -> bool:
    if files.keys() != {path.name for path in folder.glob("*.onnx")}:
        return False
    return all(_digest_at(folder / name) == digest for name, digest in files.items())


def _digest_at(path: Path) -> str:
    handle = os.open(path, os.O_RDONLY | NO_LINK)
    digest = hashlib.sha256()
    with os.fdopen(handle, "rb") as file:
        if not _is_plain(file.fileno()):
            raise OSError(f"`{path}` belongs to another user")
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _is_plain(handle: int) -> bool:
    found = os.fstat(handle)
    return stat.S_ISREG(found.st_mode) and is_trusted(found)
