import pytest

from gliclass_rerank.learn.data.false_negatives import FalseNegatives
from gliclass_rerank.learn.data.passage_pool import Pool
from gliclass_rerank.learn.data.questions import Query
from gliclass_rerank.learn.data.sampling import Sampling
from gliclass_rerank.learn.data.selection import Selector, TeacherJudge
from gliclass_rerank.text_models.interfaces import Scored

TEXTS = tuple(f"topic{n} alpha{n} beta{n} gamma{n} delta{n}" for n in range(30))
POOL = Pool(TEXTS, tuple(f"made/d{n}" for n in range(30)), {}, 30)
FOUND = list(range(29, -1, -1))  # best first


class NumberTeacher:
    """Scores a passage by a table from its number; counts what it was asked."""

    def __init__(self, scores, *, is_logit=False):
        self.is_logit = is_logit
        self.num_asked = 0
        self._scores = scores

    def score(self, asks):
        self.num_asked += sum(len(passages) for _, passages in asks)
        return Scored(
            [[self._scores(int(text.split()[0].removeprefix("topic"))) for text in texts] for _, texts in asks], 0
        )


def select(query, *, teacher=None, found=FOUND, filtering=None, **sampling):
    selector = Selector(
        POOL,
        Sampling(**{"num_negatives": 6, "depth": 30, "head_size": 5, **sampling}),
        filtering or FalseNegatives(),
        None if teacher is None else TeacherJudge("numbers", teacher, POOL),
    )
    (record,) = selector.select([query], [found])
    return record, selector.dropped


def numbers(record):
    return [int(passage_id.removeprefix("made/d")) for passage_id in record.passage_ids]


def test_positives_come_first_then_judged_negatives_then_mined_ones_by_rank():
    record, _ = select(Query("q", "which", {3: 1, 20: 0, 4: 2}))
    chosen = numbers(record)
    assert chosen[:3] == [3, 4, 20]
    assert record.grades == (1, 2, 0, None, None, None, None, None)
    assert chosen[3:] == sorted(chosen[3:], reverse=True)
    assert len(set(chosen)) == 8
    assert record.passages == tuple(TEXTS[number] for number in chosen)
    assert not record.teacher_scores


def test_judged_negatives_take_half_of_the_places_at_most():
    record, _ = select(Query("q", "which", {3: 1, **dict.fromkeys(range(10, 20), 0)}))
    assert record.grades == (1, 0, 0, 0, None, None, None)


def test_a_question_without_judgments_gets_candidates_alone():
    record, _ = select(Query("q", "which", {}))
    assert record.grades == (None,) * 6


def test_a_query_without_any_passage_has_no_record():
    record, _ = select(Query("q", "which", {}), found=[])
    assert record is None


def test_near_duplicates_of_a_positive_are_replaced():
    pool = Pool((*TEXTS[:3], f"Look: {TEXTS[0]}"), ("a", "b", "c", "d"), {}, 4)
    selector = Selector(pool, Sampling(num_negatives=3, depth=4, head_size=2), FalseNegatives())
    (record,) = selector.select([Query("q", "which", {0: 1})], [[3, 2, 1]])
    assert record.passage_ids == ("a", "c", "b")
    assert selector.dropped.duplicates == 1


def test_candidates_that_score_like_a_positive_are_replaced_and_scores_are_kept():
    teacher = NumberTeacher(lambda number: 1.0 if number >= 15 else 0.1 * (number % 5))
    record, dropped = select(Query("q", "which", {29: 1}), teacher=teacher, filtering=FalseNegatives(score_share=0.9))
    chosen = numbers(record)
    assert chosen[0] == 29
    assert len(chosen) == 7
    assert all(number < 15 for number in chosen[1:])
    assert dropped.scored_high > 0
    assert record.teacher_scores["numbers"] == pytest.approx([1.0 if n >= 15 else 0.1 * (n % 5) for n in chosen])
    assert teacher.num_asked < len(TEXTS)  # no more than was needed


def test_logits_are_compared_as_probabilities():
    # A logit of 6 is nearly certain, and so is one of 3; 0.9 of 6 would let it pass.
    teacher = NumberTeacher(lambda number: {29: 6.0}.get(number, 3.0 if number % 2 else -3.0), is_logit=True)
    record, _ = select(Query("q", "which", {29: 1}), teacher=teacher, filtering=FalseNegatives(score_share=0.9))
    assert all(number % 2 == 0 for number in numbers(record)[1:])


def test_judged_negatives_are_never_filtered():
    teacher = NumberTeacher(lambda number: 1.0)
    record, dropped = select(
        Query("q", "which", {29: 1, 28: 0}), teacher=teacher, filtering=FalseNegatives(score_share=0.9)
    )
    assert numbers(record) == [29, 28]
    assert dropped.scored_high == 28


def test_without_a_share_all_candidates_pass_and_their_scores_are_kept():
    teacher = NumberTeacher(lambda number: 1.0)
    record, dropped = select(Query("q", "which", {}), teacher=teacher)
    assert record.teacher_scores == {"numbers": (1.0,) * 6}
    assert dropped.scored_high == 0
