"""Bookkeeping for the attack suite: every try ends as an answer, an error of the library, a foreign error or a hang.

`make attack` prints the table. The environment variable `ATTACK_SCALE` multiplies the number of tries; the default run
makes a few of each kind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from gliclass_rerank.errors import GLiClassRerankError

_Result = TypeVar("_Result")

OUTCOMES = ("answered", "refused", "foreign", "hung")
SCALE = float(os.environ.get("ATTACK_SCALE", "1"))
LONGEST_QUOTE = 80
_MAX_SHOWN = 5


class _Hang(BaseException):
    """Raised by the alarm; no `except Exception` in between may swallow it."""


class Ledger:
    """Counts of one process, by surface and outcome."""

    def __init__(self) -> None:
        self.tries: Counter[tuple[str, str]] = Counter()
        self.kills: Counter[str] = Counter()

    def add(self, other: Mapping[str, list[list[Any]]]) -> None:
        for surface, outcome, count in other["tries"]:
            self.tries[surface, outcome] += count
        for surface, count in other["kills"]:
            self.kills[surface] += count

    def plain(self) -> dict[str, list[list[Any]]]:
        return {
            "tries": [[*key, count] for key, count in self.tries.items()],
            "kills": [list(item) for item in self.kills.items()],
        }

    def table(self) -> list[str]:
        surfaces = sorted({surface for surface, _ in self.tries} | set(self.kills))
        lines = [f"{'surface':<36}{'tries':>8}" + "".join(f"{name:>10}" for name in OUTCOMES) + f"{'kills':>8}"]
        for surface in surfaces:
            counts = [self.tries[surface, name] for name in OUTCOMES]
            lines.append(
                f"{surface:<36}{sum(counts):>8}"
                + "".join(f"{count:>10}" for count in counts)
                + f"{self.kills[surface]:>8}"
            )
        totals = [sum(self.tries[surface, name] for surface in surfaces) for name in OUTCOMES]
        lines.append(
            f"{'total':<36}{sum(totals):>8}" + "".join(f"{count:>10}" for count in totals) + f"{self.kills.total():>8}"
        )
        return lines


_LEDGER = Ledger()


class Attack:
    """What a test of the attack suite makes its tries with.

    A foreign error or a hang does not end the test: all are shown when it ends, and fail it then.
    """

    def __init__(self) -> None:
        self._found: list[str] = []
        self._num_found = 0

    @staticmethod
    def budget(tries: int, *, least: int = 1) -> int:
        """How many tries to make where `tries` are right for the default run."""
        return max(least, round(tries * SCALE))

    def attempt(
        self,
        surface: str,
        call: Callable[[], _Result],
        *,
        shown: object = "",
        secret: str = "",
        limit_s: float = 60.0,
        allowed: tuple[type[BaseException], ...] = (),
    ) -> _Result | None:
        """Make one try.

        Args:
            surface: Row of the table, such as `checkpoint config`.
            call: What is tried.
            shown: What to print if it goes wrong, such as the odd value.
            secret: A text of the user; no more than 80 characters of it in a row may stand in the error's message.
            limit_s: A call that takes longer hangs. Observer in the main thread only.
            allowed: Foreign exceptions that are right here, such as `TypeError` for a wrong keyword.

        Returns:
            What the call returned; None if it raised.
        """
        try:
            with _Alarm(limit_s):
                result = call()
        except _Hang:
            self._count(surface, "hung", f"{surface}: {shown!r:.200} took more than {limit_s} s")
        except GLiClassRerankError as error:
            _LEDGER.tries[surface, "refused"] += 1
            if secret and quotes_too_much(str(error), secret):
                self._count(
                    surface, "foreign", f"{surface}: {shown!r:.200}: the message quotes too much: {error!s:.300}"
                )
        except allowed:
            _LEDGER.tries[surface, "refused"] += 1
        except BaseException as error:
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            self._count(surface, "foreign", f"{surface}: {shown!r:.200}: {type(error).__name__}: {error!s:.300}")
        else:
            _LEDGER.tries[surface, "answered"] += 1
            return result
        return None

    def command(
        self,
        surface: str,
        argv: Sequence[str | Path],
        *,
        limit_s: float = 60.0,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str] | None:
        """Run a command; a traceback or a death by signal is a foreign error, a timeout a hang (None is returned)."""
        try:
            done = subprocess.run(
                [str(part) for part in argv],
                input=stdin,
                capture_output=True,
                text=True,
                timeout=limit_s,
                env=None if env is None else {**os.environ, **env},
                cwd=cwd,
                check=False,
            )
        except subprocess.TimeoutExpired:
            self._count(surface, "hung", f"{surface}: {argv!r:.300} took more than {limit_s} s")
            return None
        if done.returncode < 0 or "Traceback (most recent call last)" in done.stderr:
            self._count(surface, "foreign", f"{surface}: {argv!r:.300}: rc {done.returncode}: {done.stderr[-600:]}")
        else:
            _LEDGER.tries[surface, "answered" if done.returncode == 0 else "refused"] += 1
        return done

    def killed(self, surface: str, count: int = 1) -> None:
        """Note that a process was killed (SIGKILL) at work."""
        _LEDGER.kills[surface] += count

    def _count(self, surface: str, outcome: str, report: str) -> None:
        _LEDGER.tries[surface, outcome] += 1
        self._num_found += 1
        if len(self._found) < _MAX_SHOWN:
            self._found.append(report)

    def close(self) -> None:
        assert not self._num_found, f"{self._num_found} foreign errors or hangs, such as:\n" + "\n".join(self._found)


def quotes_too_much(message: str, secret: str) -> bool:
    """Whether more than 80 characters in a row of a user's text stand in a message."""
    length = LONGEST_QUOTE + 1
    return any(secret[start : start + length] in message for start in range(len(secret) - length + 1))


class _Alarm:
    """Raises `_Hang` in the main thread after some seconds; elsewhere, and where there is no SIGALRM, does nothing."""

    def __init__(self, seconds: float) -> None:
        is_main = threading.current_thread() is threading.main_thread()
        self._seconds = seconds if is_main and hasattr(signal, "SIGALRM") else None

    def __enter__(self) -> None:
        if self._seconds is not None:
            self._before = signal.signal(signal.SIGALRM, _ring)
            signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def __exit__(self, *_: object) -> None:
        if self._seconds is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._before)


def _ring(*_: object) -> None:
    raise _Hang


@pytest.fixture
def attack():
    one = Attack()
    yield one
    one.close()


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["attack"] = _LEDGER.plain()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    if found := getattr(node, "workeroutput", {}).get("attack"):
        _LEDGER.add(found)


def pytest_terminal_summary(terminalreporter):
    if _LEDGER.tries or _LEDGER.kills:
        terminalreporter.section("attack")
        for line in _LEDGER.table():
            terminalreporter.write_line(line)
