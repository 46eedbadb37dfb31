"""What examples do to answers: those a store finds beside two controls, 0 to k of them, on the same questions.

Three ways to choose examples for a text: `similar`, as a store finds them; `random`, as many others of the same pool;
`shuffled`, the similar ones with the labels (or judged passages) of other examples. If random ones help as much,
similarity brings nothing; if shuffled ones do, the model copies no judgement, it only likes a longer prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
from paired import p_value
from tqdm import tqdm

from gliclass_rerank import Example
from gliclass_rerank.examples import ExampleStore, StoreEncoder
from gliclass_rerank.examples.text_identity import text_identity

WAYS = ("similar", "random", "shuffled")
BATCH = 512

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Choice:
    """The examples of some texts.

    Attributes:
        by_way: For each of `WAYS` the examples of each text, in the order shown.
        similarities: Cosines of the similar ones, text by text.
    """

    by_way: Mapping[str, Sequence[tuple[Example, ...]]]
    similarities: Sequence[Sequence[float]]

    def statistics(self, is_hint: Callable[[int, Example], bool]) -> dict[str, float]:
        """How many examples there were, how similar, and how many of each way were hints.

        Args:
            is_hint: Whether an example gives away an answer to the text of this number.
        """
        similarities = [value for row in self.similarities for value in row]
        figures = {
            "with_examples": _mean([float(bool(row)) for row in self.similarities]),
            "mean_examples": _mean([len(row) for row in self.similarities]),
            "mean_similarity": _mean(similarities),
        }
        for way, shown in self.by_way.items():
            hints = [is_hint(number, example) for number, examples in enumerate(shown) for example in examples]
            figures[f"hints, {way}"] = _mean(list(map(float, hints)))
        return figures


def choose(
    texts: Sequence[str],
    pool: Sequence[Example],
    *,
    encoder: StoreEncoder,
    most: int,
    min_similarity: float,
    seed: int,
) -> Choice:
    """Choose examples in all ways. A text is never shown an example with its own text.

    Args:
        texts: What is asked about.
        pool: What is chosen from.
        encoder: Embeds both.
        most: How many examples a text gets at most.
        min_similarity: The least cosine of a similar one.
        seed: Decides what is random and how labels are shuffled.
    """
    names = [f"{position:08d}" for position in range(len(pool))]
    with ExampleStore(encoder=encoder, backend="numpy") as store:
        for start in tqdm(range(0, len(pool), BATCH), desc="filling the store", leave=False, disable=None):
            store.add(pool[start : start + BATCH], ids=names[start : start + BATCH])
        found = store.search_many(texts, most, min_similarity, exclude_texts=texts)
    similar = [[int(one.id) for one in neighbours] for neighbours in found]
    other = [
        random_positions(pool, text, len(positions), np.random.default_rng([seed, number]))
        for number, (text, positions) in enumerate(zip(texts, similar, strict=True))
    ]
    relabelled = shuffled_labels(pool, seed)

    def of(source: Sequence[Example], rows: Sequence[Sequence[int]]) -> list[tuple[Example, ...]]:
        return [tuple(source[position] for position in positions) for positions in rows]

    by_way = dict(zip(WAYS, (of(pool, similar), of(pool, other), of(relabelled, similar)), strict=True))
    return Choice(by_way, [[one.similarity for one in neighbours] for neighbours in found])


def random_positions(pool: Sequence[Example], text: str, count: int, rng: np.random.Generator) -> list[int]:
    """Positions of so many random examples, none of which has this text; texts of the pool differ."""
    own = text_identity(text)
    drawn = rng.permutation(len(pool))[: count + 1].tolist() if count else []
    return [position for position in drawn if text_identity(pool[position].text) != own][:count]


def shuffled_labels(pool: Sequence[Example], seed: int) -> list[Example]:
    """The same texts, each with the labels of another example; over the pool every label is as frequent as before."""
    order = np.random.default_rng(seed).permutation(len(pool))
    # Along one cycle, so that none keeps its own.
    source = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    return [
        replace(example, true_labels=pool[source[at]].true_labels, false_labels=pool[source[at]].false_labels)
        for at, example in enumerate(pool)
    ]


@dataclass(frozen=True)
class Measured:
    """A figure.

    Attributes:
        figure: Over all texts.
        each: One number a text, for paired tests; their mean need not be the figure.
    """

    figure: float
    each: Sequence[float]


@dataclass(frozen=True)
class Answers(Generic[Answer]):
    """What the model answered.

    Attributes:
        bare: Without examples.
        shown: By way, then for 1, 2, ... examples; one answer a text.
    """

    bare: Sequence[Answer]
    shown: Mapping[str, Sequence[Sequence[Answer]]]

    def rows(self, measure: Callable[[Sequence[Answer]], Measured]) -> list[dict[str, object]]:
        """One row a way: the figures of 0, 1, 2, ... examples, and p-values of 1, 2, ... against 0."""
        bare = measure(self.bare)
        rows: list[dict[str, object]] = []
        for way, by_count in self.shown.items():
            measured = [measure(answers) for answers in by_count]
            p = [p_value(bare.each, one.each) for one in measured]
            rows.append({"examples": way, "figures": [bare.figure, *(one.figure for one in measured)], "p": p})
        return rows


def answers(
    choice: Choice, answer: Callable[[int, tuple[Example, ...]], Answer], *, most: int, title: str
) -> Answers[Answer]:
    """QueryPassages about every text without examples and with 1 to `most` of each way.

    Args:
        choice: The examples.
        answer: Asks about the text of this number with these examples.
        most: How many to show at most.
        title: For the progress bar.
    """
    bare: list[Answer] = []
    shown: dict[str, list[list[Answer]]] = {way: [[] for _ in range(most)] for way in WAYS}
    for number in tqdm(range(len(choice.similarities)), desc=title, leave=False, disable=None):
        # Few similar ones make prompts equal.
        known: dict[tuple[Example, ...], Answer] = {(): answer(number, ())}
        bare.append(known[()])
        for way in WAYS:
            for count in range(1, most + 1):
                examples = choice.by_way[way][number][:count]
                if examples not in known:
                    known[examples] = answer(number, examples)
                shown[way][count - 1].append(known[examples])
    return Answers(bare, shown)


def print_table(figure: str, rows: Sequence[Mapping[str, object]], *, most: int) -> None:
    """Markdown: rows of `Answers.rows`, each with its `set` and `regime`, then the means over the sets."""
    counts = " | ".join(map(str, range(most + 1)))
    print(f"\n{figure} by number of examples\n\n| set | regime | examples | {counts} | p, {most} against 0 |")
    print("|---" * (5 + most) + "|")
    for row in rows:
        p = f"{row['p'][-1]:.4f}"
        print(f"| {row['set']} | {row['regime']} | {row['examples']} | {_cells(row['figures'])} | {p} |")
    groups: dict[tuple[object, object], list[Sequence[float]]] = {}
    for row in rows:
        groups.setdefault((row["regime"], row["examples"]), []).append(row["figures"])
    for (regime, way), figures in groups.items():
        print(f"| mean of {len(figures)} | {regime} | {way} | {_cells(np.mean(figures, axis=0))} | |")


def _cells(figures: Sequence[float]) -> str:
    return " | ".join(f"{figure:.3f}" for figure in figures)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0
