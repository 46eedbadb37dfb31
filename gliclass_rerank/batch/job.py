"""Folder of finished parts beside an output, which appears when all are there.

```
<output>.partial/
    _job.json           inputs and settings, which a resumed run must share
    part-00000000.jsonl
    ...
```

A part appears whole, under its number, so that a row is answered exactly once however often the process is killed. One
process at a time works on a job.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from gliclass_rerank.batch.parts import Count, Format
from gliclass_rerank.checks import named
from gliclass_rerank.errors import InputError, shown
from gliclass_rerank.files.atomic_write import atomic_file
from gliclass_rerank.files.locks import try_lock

_FACTS: Final = "_job.json"
_JOINED: Final = "_joined"


class Job:
    """Finished parts of an output; a context manager that keeps other processes out.

    Args:
        output: Final file, or folder for one file a part.
        suffix: End of the parts' names.
        facts: Inputs and settings that affect the rows, as JSON values.

    Raises:
        InputError: The output exists or cannot be written, another process works on it, or an unfinished job has other
            facts.
    """

    def __init__(self, output: Path, suffix: str, facts: Mapping[str, Any]) -> None:  # Any: JSON
        check_output(output, suffix)
        self._output = output
        self._suffix = suffix
        self.folder = output.with_name(f"{output.name}.partial")
        self.folder.mkdir(exist_ok=True)
        self._lock = os.open(self.folder, os.O_RDONLY)
        try:
            if try_lock(self._lock) is False:
                raise InputError(f"another process works on '{named(self.folder)}'")
            self._adopt(json.loads(json.dumps(dict(facts))))
            for leftover in (*self.folder.glob(".*.new"), *self.folder.glob(_JOINED)):
                leftover.unlink()
            self._stored = {path.name for path in self.folder.iterdir()}
        except BaseException:
            os.close(self._lock)
            raise

    def _adopt(self, facts: dict[str, Any]) -> None:  # Any: JSON
        path = self.folder / _FACTS
        if not any(self.folder.glob("part-*")):
            with atomic_file(path) as staging:
                staging.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
            return
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            before = None
        if not isinstance(before, dict):
            raise InputError(f"the facts of an unfinished job cannot be read; delete '{named(self.folder)}'")
        for name in sorted(facts.keys() | before.keys()):
            if facts.get(name) != before.get(name):
                raise InputError(
                    f"the unfinished job in '{named(self.folder)}' had `{name}` {shown(before.get(name))}, now it is "
                    f"{shown(facts.get(name))}; run it with the same settings and input, or delete that folder"
                )

    def __enter__(self) -> Job:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._lock)

    def is_stored(self, number: int) -> bool:
        """Test for a finished part."""
        return self._path(number).name in self._stored

    def store(self, number: int, content: bytes) -> None:
        """Keep a finished part."""
        path = self._path(number)
        with atomic_file(path) as staging:
            staging.write_bytes(content)
        self._stored.add(path.name)

    def finish(self, num_parts: int, form: Format) -> Count:
        """Put the output in its place, and delete all else.

        Args:
            num_parts: Number of parts, all of which are stored.
            form: Format of the output.

        Returns:
            Rows of the output.
        """
        paths = [self._path(number) for number in range(num_parts)]
        counts = [form.count(path) for path in paths]
        self._put(paths, form.join)
        return Count(sum(each.rows for each in counts), sum(each.failed for each in counts))

    def _put(self, paths: Sequence[Path], join: Callable[[Sequence[Path], Path], None]) -> None:
        if not self._output.suffix:
            os.replace(self.folder, self._output)
            return
        joined = self.folder / _JOINED
        join(paths, joined)
        with joined.open("r+b") as handle:
            os.fsync(handle.fileno())
        os.replace(joined, self._output)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:08}{self._suffix}"


def check_output(output: Path, suffix: str) -> None:
    """Check that an output can be written, before long work.

    Args:
        output: Final path.
        suffix: End of its name; a name without any is a folder's.

    Raises:
        InputError: Another suffix, a missing or read-only folder around it, or the output exists.
    """
    if output.suffix not in ("", suffix) or not output.name:
        raise InputError(
            f"the name of the output must end in {suffix}, as the input's, or have no ending, for a folder of parts, "
            f"got '{named(output)}'"
        )
    if not (output.parent.is_dir() and os.access(output.parent, os.W_OK)):
        raise InputError(f"the folder of the output must exist and be writable, got '{named(output)}'")
    if output.exists():
        raise InputError(f"the output exists already, got '{named(output)}'; delete it or choose another name")
