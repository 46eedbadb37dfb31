"""The bookkeeping of the attack suite itself: what it must not miss."""

from __future__ import annotations

import sys
import time

import attack_ledger
import pytest
from attack_ledger import Attack, Ledger, quotes_too_much

from gliclass_rerank.errors import InputError


@pytest.fixture
def ledger(monkeypatch):
    own = Ledger()
    monkeypatch.setattr(attack_ledger, "_LEDGER", own)
    return own


def test_each_outcome_is_counted(ledger):
    one = Attack()

    def refuse():
        raise InputError("no")

    def sleep():
        time.sleep(5)

    assert one.attempt("a", lambda: 3) == 3
    one.attempt("a", refuse)
    one.attempt("a", lambda: {}["x"])
    one.attempt("a", sleep, limit_s=0.05)
    assert dict(ledger.tries) == {("a", name): 1 for name in attack_ledger.OUTCOMES}
    with pytest.raises(AssertionError, match=r"2 foreign errors or hangs(.|\n)*KeyError(.|\n)*more than 0.05 s"):
        one.close()


def test_a_traceback_of_a_command_is_foreign(ledger):
    one = Attack()
    one.command("cli", [sys.executable, "-c", "raise ValueError"])
    one.command("cli", [sys.executable, "-c", "raise SystemExit(2)"])
    assert ledger.tries == {("cli", "foreign"): 1, ("cli", "refused"): 1}


def test_a_message_that_quotes_more_than_80_characters_is_found():
    text = "".join(chr(97 + number % 26) + str(number) for number in range(60))
    assert not quotes_too_much(f"got {text[:80]!r}", text)
    assert quotes_too_much(f"got {text[7:88]!r}", text)


def test_counts_of_workers_are_added():
    first, second = Ledger(), Ledger()
    first.tries["a", "refused"] = second.tries["a", "refused"] = 2
    second.kills["store"] = 3
    first.add(second.plain())
    assert first.tries["a", "refused"] == 4
    assert first.kills["store"] == 3
