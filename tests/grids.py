"""Grids of options: a part that meets every value in changing company runs always, all of it with `-m slow`."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import Any

import pytest


def thinned(*axes: Collection[Any], every: int | None = None) -> list[Any]:
    """Every combination of one value an axis, as parameters of a test; the others are marked as slow.

    One in `every` runs always, chosen by the sum of its values' places. By default that is the number of values of the
    last axis: any values of the other axes meet, each time with one value of the last.
    """
    step = len(axes[-1]) if every is None else every
    parameters = []
    for combination in itertools.product(*map(enumerate, axes)):
        places, values = zip(*combination, strict=True)
        parameters.append(pytest.param(*values, marks=[pytest.mark.slow] if sum(places) % step else []))
    return parameters
