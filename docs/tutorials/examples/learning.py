"""A better model out of a feedback log: a shop whose customers ask in German, and whose handbook is English.

python docs/tutorials/examples/learning.py [FOLDER]
"""

import csv
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from gliclass_rerank import Reranker
from gliclass_rerank.learn import learn

START = "minilm-l6-v1"
DEMO = Path(__file__).parents[2] / "demo"
HANDBOOK = (DEMO / "handbook.txt").read_text(encoding="utf-8").splitlines()

Questions = list[tuple[int, str]]  # with the index of the passage that answers


def questions() -> tuple[Questions, Questions]:
    """Three questions a passage: two that customers ask, and one that nobody has asked yet."""
    with (DEMO / "questions-german.tsv").open(encoding="utf-8", newline="") as file:
        found = [(int(line) - 1, text) for line, text in csv.reader(file, delimiter="\t")]
    return [one for number, one in enumerate(found) if number % 3 < 2], found[2::3]


def use(reranker: Reranker, asked: Questions) -> None:
    """Answer with the three best passages; a customer marks the wrong ones, a colleague names the right one."""
    for answer, question in asked:
        ranking = reranker.rank(question, HANDBOOK, top_k=3)
        wrong = [hit.text for hit in ranking if hit.index != answer]
        reranker.feedback(question, relevant=[HANDBOOK[answer]], irrelevant=wrong)


def among_the_first_three(model: str | Path, asked: Questions) -> float:
    """Share of the questions whose answer is shown."""
    reranker = Reranker(model)
    shown = [{hit.index for hit in reranker.rank(question, HANDBOOK, top_k=3)} for _, question in asked]
    return sum(answer in found for (answer, _), found in zip(asked, shown, strict=True)) / len(asked)


def main(folder: Path) -> None:
    """Log, learn, and ask what nobody has asked."""
    asked, new = questions()
    log, model = folder / "feedback.db", folder / "model"
    use(Reranker(START, log=log), asked)
    learned = learn(log, out=model, start=START)
    for figure in learned.verdict.comparisons:
        print(f"{figure.name}: {figure.old:.2f} -> {figure.new:.2f}")
    print("accepted" if learned.is_current else learned.verdict.reasons)
    before, after = among_the_first_three(START, new), among_the_first_three(model, new)
    print(f"answers shown to new questions: {before:.0%} -> {after:.0%}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with TemporaryDirectory() as scratch:
            main(Path(scratch))
