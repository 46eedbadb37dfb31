"""Scores and `answerable` as probabilities: before and after their calibration, by kind of text.

    python benchmarks/bench_calibration.py --fitted FOLDER --measured FOLDER --cache FOLDER [--backend openvino]

The folders are what `calibration_lists.py` writes. All sets have the calibration of the bundled model, whose few
numbers were fitted on all of the fitted kinds together, and on none of the measured sets. Relevant candidates have half
of the weight in each set, because judgments name few of them. Before, the bundled model was calibrated on answer
sentences alone. AUROC of `answerable`: lists as they are against the same lists without their relevant passages, and
answerable against unanswerable questions where a set has both.

Logits of both networks are kept under `--cache`. Passages beyond the twentieth are scored with and without the second
network: `unseen` is the mean absolute difference of these scores.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from calibration_lists import SPLIT
from harness import print_json
from tqdm import tqdm

from gliclass_rerank.cascade import CascadeConfig, part_folder
from gliclass_rerank.checkpoint.location import DEFAULT_MODEL, DEFAULT_RANKER, bundled_folder, read_config
from gliclass_rerank.learn.evaluation.collection import Collection, load_collection
from gliclass_rerank.learn.training.calibrating import CalibrationReport, best_logits, fit
from gliclass_rerank.learn.training.judged import JudgedList, figures_of
from gliclass_rerank.model.probability import Calibration, probabilities
from gliclass_rerank.pipeline import Pipeline
from gliclass_rerank.prompt.layout import ScoringRequest
from gliclass_rerank.settings import RerankerSettings

SHARE: Final = 0.5
# Fitted on SelQA, answer sentences, with the shares that its lists have.
BEFORE: Final = Calibration((0.41478999, -2.15578477), (1.0, 0.0))


class Logits(NamedTuple):
    """Logits of both networks for one list."""

    first: list[float]
    second: list[float]
    relevant: list[bool]


def scored(collection: Collection, cache: Path, networks: list[Pipeline], backend: str) -> list[Logits]:
    """Logits of each list; what the cache has is not computed again."""
    path, found = cache / f"{collection.name}.jsonl", []
    known = {}
    if path.is_file():
        known = {row["query"]: row for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
    with path.open("a", encoding="utf-8") as handle:
        for query, text in tqdm(collection.queries.items(), desc=collection.name, leave=False, disable=None):
            ids = list(collection.candidates[query])
            row = known.get(query)
            if row is None or row["ids"] != ids:
                networks = networks or loaded(bundled_folder(DEFAULT_RANKER), backend)
                request = ScoringRequest(text, [collection.passages[key] for key in ids])
                first, second = (each.score([request], truncate_side="candidates")[0].logits for each in networks)
                row = {"query": query, "ids": ids, "first": first, "second": second}
                handle.write(json.dumps(row) + "\n")
            grades = collection.qrels[query]
            found.append(Logits(row["first"], row["second"], [grades.get(key, 0) > 0 for key in ids]))
    return found


def loaded(folder: Path, backend: str) -> list[Pipeline]:
    """Both networks of a cascade."""
    config = CascadeConfig.from_dict(read_config(folder))
    settings = RerankerSettings(device="cpu", backend=backend, dtype=None if backend == "torch" else "int8")
    return [Pipeline(settings, folder=part_folder(folder, part)) for part in (config.first, config.second)]


def judged(lists: Sequence[Logits], config: CascadeConfig) -> list[JudgedList]:
    """The default's logits, of each list's first twenty candidates."""
    made = []
    for each in lists:
        first, second = (np.array(row[: config.rerank_depth]) for row in (each.first, each.second))
        mixture = np.array(config.mixed(first.tolist(), second.tolist()))
        made.append(JudgedList(mixture.tolist(), each.relevant[: config.rerank_depth], first.tolist()))
    return made


def unseen_difference(lists: Sequence[Logits], config: CascadeConfig, line: tuple[float, float]) -> float:
    """Mean absolute difference of scores that passages get without the second network, and with it."""
    differences = []
    for each in lists:
        first, second = np.array(each.first), np.array(each.second)
        mixture = np.array(config.mixed(first.tolist(), second.tolist()))
        expected = line[0] * first + line[1]
        order = np.argsort(-first, kind="stable")
        seen, others = order[: config.rerank_depth], order[config.rerank_depth :]
        if len(others):
            down = max(0.0, float(expected[others].max() - mixture[seen].min()))
            without, with_it = (
                np.array(probabilities(logits.tolist(), config.score_calibration))
                for logits in (expected[others] - down, mixture[others])
            )
            differences.append(float(np.abs(without - with_it).mean()))
    return float(np.mean(differences))


def rows_of(
    fitted: Mapping[str, list[Logits]], measured: Mapping[str, list[Logits]]
) -> tuple[CalibrationReport, list[dict[str, object]]]:
    """The calibrations of the fitted kinds, and one row a set: figures of scores, then of `answerable`."""
    config = CascadeConfig.from_dict(read_config(bundled_folder(DEFAULT_RANKER)))
    assert config.score_calibration is not None
    assert config.answerable_calibration is not None
    report = fit({name: judged(lists, config) for name, lists in fitted.items()}, BEFORE, SHARE)
    rows: list[dict[str, object]] = []
    before, everything = BEFORE.score or (1.0, 0.0), [judged(lists, config) for lists in fitted.values()]
    for name, lists in (*fitted.items(), *measured.items()):
        own = judged(lists, config)
        answers = figures_of(
            [([[best_logits(each) for each in own]], config.answerable_calibration)], (1.0, 0.0), SHARE
        )
        rows.append({"set": name, "fitted": name in fitted})
        rows[-1] |= asdict(figures_of([([own], config.score_calibration)], before, SHARE))
        rows[-1] |= {"answerable_area": answers.area, "answerable_error": answers.error_after}
    overall = figures_of([(everything, config.score_calibration)], before, SHARE)
    rows.insert(len(fitted), {"set": "all kinds", "fitted": True, **asdict(overall)})
    return report, rows


def main() -> None:
    """Print the table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fitted", type=Path, required=True, help="lists of the kinds that are fitted on")
    parser.add_argument("--measured", type=Path, required=True, help="lists of other collections")
    parser.add_argument("--cache", type=Path, default=Path("build/calibration"), help="where logits are kept")
    parser.add_argument("--backend", default="torch")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    networks: list[Pipeline] = []
    fitted, measured = (
        {
            path.name: scored(
                load_collection(path, SPLIT, with_unanswerable=True), arguments.cache, networks, arguments.backend
            )
            for path in sorted(folder.iterdir())
        }
        for folder in (arguments.fitted, arguments.measured)
    )
    config = CascadeConfig.from_dict(read_config(bundled_folder(DEFAULT_RANKER)))
    everything = [each for lists in (*fitted.values(), *measured.values()) for each in lists]
    unseen = {
        "without": unseen_difference(everything, config, (1.0, 0.0)),
        "with": unseen_difference(everything, config, config.unseen_calibration or (1.0, 0.0)),
    }
    report, rows = rows_of(fitted, measured)
    print(
        "| set | queries | ECE before | after | precision | recall | AUROC | answerable, AUROC |\n" + "|---" * 8 + "|"
    )
    for row in rows:
        figures = (
            row.get(key) for key in ("error_before", "error_after", "precision", "recall", "area", "answerable_area")
        )
        cells = ["" if value is None else f"{value:.3f}" for value in figures]
        print(f"| {row['set']} | {row['num_queries']} | {' | '.join(cells)} |")
    print(f"passages without a second look: {unseen['without']:.3f} -> {unseen['with']:.3f}")
    alone = fit(
        {name: judged(own, replace(config, first_weight=1.0, sure_bonus=None)) for name, own in fitted.items()},
        BEFORE,
        SHARE,
    )
    lines = {
        DEFAULT_RANKER: {"score": report.score, "answerable": report.answerable, "unseen": report.unseen},
        DEFAULT_MODEL: {"score": alone.score, "answerable": alone.answerable},
    }
    print(f"fitted here: {lines}")
    print_json({"rows": rows, "unseen": unseen, "fitted": lines, "relevant_share": SHARE, "backend": arguments.backend})


if __name__ == "__main__":
    main()
