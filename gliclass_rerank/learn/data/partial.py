"""Resumable JSONL file, which grows under another name until it is complete.

Until then these lie beside the target:

```
<target>.partial          lines so far
<target>.partial.json     settings of the run, which a resumed run must share
<target>.partial.scratch/ other files for a resumed run
```

Lines are flushed at once; a kill costs at most the line it interrupts, which is removed on reopening.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Protocol

from gliclass_rerank.checks import named
from gliclass_rerank.errors import InputError, shown
from gliclass_rerank.learn.data.records import RankingRecord, read_records

_SUFFIX: Final = ".jsonl"


class Line(Protocol):
    """Serialisable line, such as a `RankingRecord`."""

    def to_line(self) -> str:
        """Serialise to one line of JSON without its end."""
        ...


class PartialFile:
    """Incomplete file; a context manager that keeps written lines.

    Args:
        target: Final `.jsonl` path.
        settings: All settings that affect the lines, as JSON values.
        replacing: The target may exist.

    Attributes:
        scratch: Folder for other files of the run, not created here; deleted at the end.

    Raises:
        InputError: The target exists or cannot be written, or an unfinished run has other settings.
    """

    def __init__(self, target: Path, settings: Mapping[str, Any], *, replacing: bool = False) -> None:
        check_target(target, replacing=replacing)
        self._target = target
        self._path = target.with_name(f"{target.name}.partial")
        self._settings_path = target.with_name(f"{target.name}.partial.json")
        self.scratch = target.with_name(f"{target.name}.partial.scratch")
        self._adopt(json.loads(json.dumps(dict(settings))))
        self._handle: BinaryIO = self._path.open("a+b")
        self._ends = _line_ends(self._handle)
        self._cut(len(self._ends))

    def _adopt(self, settings: dict[str, Any]) -> None:  # Any: JSON
        has_work = self.scratch.exists() or (self._path.exists() and self._path.stat().st_size > 0)
        if not has_work:
            self._settings_path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
            return
        before = self._settings_before()
        for name in sorted(settings.keys() | before.keys()):
            if settings.get(name) != before.get(name):
                raise InputError(
                    f"the unfinished run in {shown(str(self._path))} had `{name}` {shown(before.get(name))}, now it is "
                    f"{shown(settings.get(name))}; run it with the same settings and files, or delete {self._traces()}"
                )

    def _settings_before(self) -> dict[str, Any]:  # Any: JSON
        try:
            values = json.loads(self._settings_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            values = None
        if not isinstance(values, dict):
            raise InputError(f"the settings of an unfinished run cannot be read; delete {self._traces()}")
        return values

    def _traces(self) -> str:
        return f"{shown(str(self._path))} and {shown(str(self.scratch))} to start over"

    @property
    def num_lines(self) -> int:
        """Lines written so far, by earlier runs too."""
        return len(self._ends)

    def __enter__(self) -> PartialFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.close()

    def records(self) -> Iterator[RankingRecord]:
        """Iterate over the records so far."""
        return read_records(self._path)

    def keep(self, num_lines: int) -> None:
        """Keep only the first `num_lines` lines."""
        self._cut(num_lines)

    def append(self, records: Sequence[Line]) -> None:
        """Write one line per record and flush."""
        for record in records:
            raw = record.to_line().encode() + b"\n"
            self._handle.write(raw)
            self._ends.append((self._ends[-1] if self._ends else 0) + len(raw))
        self._handle.flush()

    def finish(self) -> None:
        """Rename the file to its target atomically, and delete all else; nothing can be written afterwards."""
        self._handle.flush()
        os.fsync(self._handle.fileno())
        self._handle.close()
        os.replace(self._path, self._target)
        self._settings_path.unlink(missing_ok=True)
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _cut(self, num_lines: int) -> None:
        del self._ends[num_lines:]
        self._handle.truncate(self._ends[-1] if self._ends else 0)


def check_target(target: Path, *, replacing: bool) -> None:
    """Check that a file can be written, before long work.

    Args:
        target: Final path.
        replacing: The target may exist.

    Raises:
        InputError: Another suffix, a missing or read-only folder, or an existing file that must not be replaced.
    """
    if target.suffix != _SUFFIX:
        raise InputError(f"the name of the output must end in {_SUFFIX}, got '{named(target)}'")
    if not (target.parent.is_dir() and os.access(target.parent, os.W_OK)):
        raise InputError(f"the folder of the output must exist and be writable, got '{named(target)}'")
    if target.is_dir() or (target.exists() and not replacing):
        raise InputError(f"the output exists already, got '{named(target)}'; delete it or choose another name")


def _line_ends(handle: BinaryIO) -> list[int]:
    """Ends of the complete lines."""
    handle.seek(0)
    ends, position = [], 0
    for raw in handle:
        position += len(raw)
        if raw.endswith(b"\n"):
            ends.append(position)
    return ends
