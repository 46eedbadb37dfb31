"""From an empty log to a better model: riders open passages of a handbook, the model learns their words.

python docs/tutorials/examples/learn.py
"""

import random
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from gliclass_rerank import Reranker
from gliclass_rerank.learn import LearnSettings, learn, rollback

HANDBOOK = Path(__file__).parents[2] / "demo/handbook.txt"
# What riders say, and how the handbook calls it.
WORDS = {
    "necklace": "chain",
    "anchors": "brake",
    "boots": "tyre",
    "throne": "saddle",
    "hoop": "spoke",
    "lantern": "lamp",
    "reins": "handlebar",
    "juice": "battery",
}
ASKED = [
    "what about the {}?",
    "help with my {}",
    "the {} again",
    "looking after the {}",
    "{} trouble",
    "is my {} fine?",
]
LATER = ["please check the {}", "who knows about {}?"]


def candidates(word: str, passages: list[str], rng: random.Random) -> tuple[list[str], int]:
    """Five passages, one of which is about the word; and its position."""
    right = rng.choice([passage for passage in passages if word in passage])
    others = rng.sample([passage for passage in passages if word not in passage], 4)
    shown = [right, *others]
    rng.shuffle(shown)
    return shown, shown.index(right)


def answered(reranker: Reranker, passages: list[str]) -> int:
    """Number of later questions whose answer comes first."""
    rng, count = random.Random(1), 0
    for question, (said, word) in product(LATER, WORDS.items()):
        shown, right = candidates(word, passages, rng)
        count += reranker.rank(question.format(said), shown, log=False)[0].index == right
    return count


def main() -> None:
    """Ask, click, learn, ask again; then go back."""
    passages, rng = HANDBOOK.read_text(encoding="utf-8").splitlines(), random.Random(0)
    with TemporaryDirectory() as folder:
        log, model = Path(folder, "feedback.db"), Path(folder, "model")
        start = Reranker("minilm-l6-v1", log=log)
        for question, (said, word) in product(ASKED, WORDS.items()):
            shown, right = candidates(word, passages, rng)
            ranking = start.rank(question.format(said), shown)
            start.log.clicks(ranking.id, [right])  # a rider who knows opens the right passage
        settings = LearnSettings(held_out=0.55, epochs=5, queries_per_step=2, learning_rate=2e-4)
        learned = learn(log, out=model, start="minilm-l6-v1", settings=settings)
        print(f"{learned.num_signals} clicks, version {learned.version}, used: {learned.is_current}")
        before, after = answered(start, passages), answered(Reranker(model), passages)
        print(f"more than before: {after > before}")
        print(f"back to version {rollback(model).name}")


if __name__ == "__main__":
    main()
