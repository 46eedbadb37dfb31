"""Values that nobody expects: what is no text, no list and no number, and objects whose methods raise."""

from __future__ import annotations

import decimal
import fractions
import pathlib

import numpy as np

LONG = "".join(f"{number:05}-secret " for number in range(800))  # no 80 characters of it come twice


class Sabotage(Exception):  # noqa: N818
    """Raised by hostile objects; its message is long."""

    def __init__(self):
        super().__init__(LONG)


def raises(*_, **__):
    raise Sabotage


class RaisingText(str):
    """A text whose methods raise."""

    __slots__ = ()
    __str__ = __repr__ = __len__ = __eq__ = __hash__ = __iter__ = __getitem__ = __contains__ = __add__ = raises
    strip = encode = split = lower = casefold = join = format = startswith = raises


class RaisingList(list):
    __iter__ = __len__ = __getitem__ = __repr__ = __eq__ = __bool__ = raises


class RaisingDict(dict):
    __iter__ = __len__ = __getitem__ = __repr__ = __eq__ = __contains__ = keys = items = values = get = raises


class Raising:
    """Pretends to be everything, and raises."""

    __iter__ = __len__ = __getitem__ = __repr__ = __str__ = __eq__ = __hash__ = __bool__ = __float__ = raises
    __index__ = __int__ = __contains__ = __fspath__ = __call__ = __lt__ = __format__ = raises


class Lying:
    """Says that it is a string."""

    __class__ = property(lambda _: str)


class Endless:
    """A sequence by its methods, which never agree."""

    def __len__(self):
        return 3

    def __getitem__(self, _):
        return "again"

    def __iter__(self):
        yield from ("one", "two", "three", "four")


def values():
    """A new list of them; each a name and a value."""
    deep = []
    for _ in range(5000):
        deep = [deep]
    return [
        ("None", None),
        ("bool", True),
        ("numpy bool", np.True_),
        ("int", 3),
        ("zero", 0),
        ("negative", -7),
        ("huge int", 10**5000),
        ("float", 2.5),
        ("nan", float("nan")),
        ("inf", float("inf")),
        ("numpy float", np.float32(0.5)),
        ("numpy int", np.int64(2)),
        ("decimal", decimal.Decimal("sNaN")),
        ("fraction", fractions.Fraction(1, 3)),
        ("complex", 1j),
        ("empty text", ""),
        ("blank text", " \n\t"),
        ("text", "brakes"),
        ("long text", LONG),
        ("numpy text", np.str_("brakes")),
        ("surrogate", "\ud800"),
        ("null byte", "a\0b"),
        ("bidi", "\u202eabc\u2066"),
        ("raising text", RaisingText("brakes")),
        ("bytes", b"brakes"),
        ("long bytes", LONG.encode()),
        ("bytearray", bytearray(b"brakes")),
        ("memoryview", memoryview(b"brakes")),
        ("path", pathlib.Path("brakes")),
        ("empty list", []),
        ("list", ["brakes", "chain"]),
        ("list of None", [None, "chain"]),
        ("list of nan", [float("nan")]),
        ("list of bytes", [b"brakes"]),
        ("list of lists", [["brakes"], ["chain"]]),
        ("list of long", [LONG, 3]),
        ("list of raising", [Raising()]),
        ("list of raising texts", [RaisingText("a"), RaisingText("b")]),
        ("tuple", ("brakes",)),
        ("set", {"brakes"}),
        ("frozenset", frozenset({"brakes"})),
        ("dict", {"text": "brakes"}),
        ("dict of long", {LONG: LONG}),
        ("dict of ints", {1: 2}),
        ("dict of mess", {"text": Raising(), "labels": Raising(), "a": {1j}}),
        ("raising dict", RaisingDict(text="brakes")),
        ("raising list", RaisingList(["brakes"])),
        ("raising", Raising()),
        ("lying", Lying()),
        ("class", Raising),
        ("function", raises),
        ("generator", (text for text in ("brakes", "chain"))),
        ("raising generator", (raises() for _ in "ab")),
        ("range", range(2)),
        ("endless", Endless()),
        ("0-d array", np.array("brakes")),
        ("0-d number", np.array(3.0)),
        ("array of texts", np.array(["brakes", "chain"])),
        ("array of numbers", np.arange(3)),
        ("array of objects", np.array([None, "x", 3], dtype=object)),
        ("2-d array", np.ones((2, 3))),
        ("object", object()),
        ("deep list", deep),
        ("ellipsis", ...),
    ]


try:
    import pandas as pd
except ImportError:
    pd = None
else:
    _plain = values

    def values():
        return [
            *_plain(),
            ("series", pd.Series(["brakes", None])),
            ("frame", pd.DataFrame({"text": ["brakes"]})),
            ("pandas NA", pd.NA),
        ]
