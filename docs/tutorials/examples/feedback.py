"""A reranker that learns from feedback, without training: judgements are carried over to similar queries.

python docs/tutorials/examples/feedback.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from gliclass_rerank import Reranker
from gliclass_rerank.examples import ExampleStore

ANSWERS = [
    "The lift is serviced every first Monday.",
    "Printer in room 12: open the tray, pull the paper out.",
    "Coffee machine: press twice.",
]


def show(reranker: Reranker, query: str) -> None:
    """Print the best answer and the judged queries that counted."""
    ranking = reranker.rank(query, ANSWERS)
    print(f"{query}  {ANSWERS[ranking[0].index]}  {[example.text for example in ranking.examples]}")


def main() -> None:
    """Ask, judge one answer of a similar query, ask again; then take the judgement back."""
    with TemporaryDirectory() as folder, ExampleStore(Path(folder, "judged.db")) as store:
        reranker = Reranker(example_store=store)  # with a path it opens and closes the store itself
        show(reranker, "who repairs Larry?")
        name = reranker.feedback("Larry is stuck", relevant=[ANSWERS[1]], irrelevant=[ANSWERS[0]])
        show(reranker, "Larry is stuck")
        show(reranker, "who repairs Larry?")
        store.delete([name])
        show(reranker, "who repairs Larry?")


if __name__ == "__main__":
    main()
