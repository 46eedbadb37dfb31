"""Macro-F1 of classification with examples out of a set's own training texts, in three regimes.

`standard` is the untouched checkpoint; `few_shot` the same after fine-tuning on a few texts a label (`few_shot.py`);
`weak` after fine-tuning on as many texts a label that the checkpoint itself labelled. The store holds the training
texts with their true labels in all three: what differs is the model that reads them.
"""

from __future__ import annotations

import json
import logging
import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from few_shot import few_shot_config
from shown_examples import Choice, Measured, answers

from gliclass_rerank import Example, ZeroShotClassifier
from gliclass_rerank.checkpoint.location import DEFAULT_MODEL
from gliclass_rerank.learn.data.example_pool import ExamplePool
from gliclass_rerank.learn.data.labelled import open_labelled
from gliclass_rerank.learn.data.pseudo_labels import PseudoLabelling, write_pseudo_labels
from gliclass_rerank.learn.data.unlabelled import read_texts
from gliclass_rerank.learn.evaluation.collection import spread
from gliclass_rerank.learn.training import DevConfig, train
from gliclass_rerank.learn.training.dev import classification_figures
from gliclass_rerank.learn.training.examples import example_of
from gliclass_rerank.learn.training.records import ClassificationRecord, known_labels
from gliclass_rerank.learn.training.sources import data_file, open_classification

SETS = ("ag_news", "sst5", "sst2", "tweet_emotion", "20newsgroups", "trec")
REGIMES = ("standard", "few_shot", "weak")
FIGURE = "macro-F1"
DEFAULT = DEFAULT_MODEL  # where no model is named


def measure(
    folder: Path, choose: Callable[..., Choice], arguments: Namespace
) -> tuple[dict[str, object], list[dict[str, object]]]:
    """Measure one set.

    Args:
        folder: The set.
        choose: Told texts and a pool, chooses examples.
        arguments: The command line's.

    Returns:
        What there is to know about it, and the rows of its regimes.
    """
    # That long texts are cut is no news here.
    logging.getLogger("gliclass_rerank.classifier").setLevel(logging.ERROR)
    pool = example_pool(folder, arguments.pool, arguments.seed)
    tests = open_classification(DevConfig(path=folder, kind="classification", split="test"))
    records = [tests[position] for position in spread(len(tests), arguments.limit)]
    choice = choose([record.text for record in records], pool)

    def is_hint(number: int, example: Example) -> bool:
        return not set(example.true_labels).isdisjoint(records[number].labels)

    rows: list[dict[str, object]] = []
    for regime in arguments.regimes:
        with tempfile.TemporaryDirectory() as scratch:
            model = fine_tuned(regime, folder, arguments, Path(scratch))
            classifier = ZeroShotClassifier(
                model,
                max_example_tokens=arguments.max_example_tokens,
                device=arguments.device,
                backend=arguments.backend,
            )

        def logits(
            number: int, examples: tuple[Example, ...], classifier: ZeroShotClassifier = classifier
        ) -> list[float]:
            record = records[number]
            return classifier.logits(
                record.text, record.all_labels, examples=examples, example_format=arguments.example_format
            )

        answered = answers(choice, logits, most=arguments.examples, title=f"{folder.name}, {regime}")
        found = answered.rows(lambda logits: macro_f1(records, logits))
        rows += [{"set": folder.name, "regime": regime, **row} for row in found]
    facts = {"set": folder.name, "measured": len(records), "pool": len(pool), **choice.statistics(is_hint)}
    return facts, rows


def example_pool(folder: Path, limit: int | None, seed: int) -> list[Example]:
    """The training texts with their labels, each text once, evenly spread over the file."""
    pool = ExamplePool(open_labelled(data_file(folder, "train"), "classification"), "ignore")
    return [example_of(pool[row].record, np.random.default_rng([seed, row])) for row in spread(len(pool), limit)]


def macro_f1(records: Sequence[ClassificationRecord], logits: Sequence[list[float]]) -> Measured:
    """Macro-F1, and for each text whether its labels are exactly right: p-values are those of the accuracy."""
    figure, _ = classification_figures(records, logits)
    each = [classification_figures([record], [row])[1] for record, row in zip(records, logits, strict=True)]
    return Measured(figure, each)


def fine_tuned(regime: str, folder: Path, arguments: Namespace, scratch: Path) -> str | None:
    """The model of a regime: the one that was given (None is the bundled one), or a folder with a new one."""
    if regime == "standard":
        return arguments.model
    data, shots = folder, arguments.shots
    if regime == "weak":
        data, shots = self_labelled(folder, arguments, scratch), None
    train(few_shot_config(data, scratch / "run", model=arguments.model, shots=shots, seed=arguments.seed))
    return str(scratch / "run" / "last")


def self_labelled(folder: Path, arguments: Namespace, scratch: Path) -> Path:
    """Write the training texts of which the model is surest, `shots` a label, as records."""
    source, texts, records = data_file(folder, "train"), scratch / "texts.jsonl", scratch / "records.jsonl"
    known = list(read_texts(source))
    chosen = spread(len(known), arguments.unlabelled)
    texts.write_text("".join(json.dumps({"text": known[at]}) + "\n" for at in chosen), encoding="utf-8")
    believed = PseudoLabelling(threshold=0.0, per_label=arguments.shots, seed=arguments.seed)
    classifier = ZeroShotClassifier(arguments.model, device=arguments.device, backend=arguments.backend)
    write_pseudo_labels(records, texts, known_labels(source), classifier, believed)
    return records
