"""Public questions for the regression check: the docstrings of Python's standard library.

The first line of a docstring is the question, the rest of it the answer; the other candidates are rests of the same
module. Every Python brings them, so they need neither network nor data of ours, and nobody's log is about them.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MODULES: Final = (
    "argparse asyncio.tasks calendar codecs collections concurrent.futures._base configparser contextlib copy csv "
    "datetime _pydatetime decimal _pydecimal difflib doctest email.message email.utils enum fractions ftplib functools "
    "gettext heapq http.client http.cookiejar imaplib inspect ipaddress locale logging mailbox mimetypes "
    "multiprocessing.pool os pathlib pickle platform plistlib pprint pstats queue random sched selectors shelve shutil "
    "smtplib socket statistics string subprocess tarfile tempfile textwrap threading tokenize trace traceback typing "
    "unittest.case urllib.parse urllib.request uuid warnings wsgiref.handlers xmlrpc.client zipfile"
)
_CANDIDATES: Final = 6
_OF_A_MODULE: Final = 2
_WORDS: Final = range(8, 120)
_QUESTION_WORDS: Final = range(4, 20)


@dataclass(frozen=True)
class PublicQuestion:
    """Question with candidates.

    Attributes:
        text: Question.
        passages: Candidates.
        answer: Position of the answer.
    """

    text: str
    passages: tuple[str, ...]
    answer: int


def public_questions() -> list[PublicQuestion]:
    """Questions of the running Python's library, always the same ones; none if its sources are missing."""
    return [question for module in _MODULES.split() for question in _of_module(module)]


def _of_module(module: str) -> list[PublicQuestion]:
    pairs = list(dict(_pairs(module)).items())
    count = len(pairs)
    if count < _CANDIDATES:
        return []
    found = []
    for turn in range(_OF_A_MODULE):
        own = turn * count // _OF_A_MODULE
        # Evenly over the module, from the answer on: where it stands says nothing.
        chosen = sorted((own + step * count // _CANDIDATES) % count for step in range(_CANDIDATES))
        passages = tuple(pairs[index][1] for index in chosen)
        found.append(PublicQuestion(pairs[own][0], passages, chosen.index(own)))
    return found


def _pairs(module: str) -> Iterator[tuple[str, str]]:
    """Question and answer of each function and class of a module."""
    for docstring in _docstrings(module):
        question, _, rest = inspect.cleandoc(docstring).partition("\n")
        answer = " ".join(rest.split())
        if len(question.split()) in _QUESTION_WORDS and len(answer.split()) in _WORDS and ">>>" not in answer:
            yield question.strip(), answer


def _docstrings(module: str) -> Iterator[str]:
    try:
        spec = importlib.util.find_spec(module)
        source = Path(spec.origin or "").read_text(encoding="utf-8") if spec is not None else ""
        tree = ast.parse(source)
    except (ImportError, OSError, SyntaxError, ValueError):  # a module of another version, a frozen one
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and (
            text := ast.get_docstring(node)
        ):
            yield text
