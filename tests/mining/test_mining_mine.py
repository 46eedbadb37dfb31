import json

import pytest
from mining_data import kill_after_lines, write_collection

from gliclass_rerank.errors import ConfigError, InputError
from gliclass_rerank.learn.data.false_negatives import FalseNegatives
from gliclass_rerank.learn.data.mine import Mining, mine
from gliclass_rerank.learn.data.questions import Judged, Sources
from gliclass_rerank.learn.data.records import read_records
from gliclass_rerank.learn.data.sampling import Sampling
from gliclass_rerank.text_models.load import load_encoder, load_teacher
from gliclass_rerank.text_models.options import ModelOptions

SAMPLING = Sampling(num_negatives=4, depth=20, head_size=5)

# Mines as `killed_settings` says, slowly, so that there is time to kill it.
SCRIPT = """
import sys, time
from pathlib import Path
from gliclass_rerank.learn.data.mine import Mining, mine
from gliclass_rerank.text_models.load import load_teacher
from gliclass_rerank.text_models.options import ModelOptions
from gliclass_rerank.learn.data.questions import Judged, Sources
from gliclass_rerank.learn.data.sampling import Sampling

class Slow:
    is_logit = True
    def __init__(self, teacher):
        self.teacher = teacher
    def score(self, asks):
        time.sleep(0.2)
        return self.teacher.score(asks)

collection, model, target = map(Path, sys.argv[1:])
mine(
    target,
    Mining(sources=Sources((Judged(collection),)), sampling=Sampling(num_negatives=4, depth=20, head_size=5)),
    teacher=("noisy", Slow(load_teacher(str(model), ModelOptions(threads=1)))),
)
"""


def mining(collection, **settings):
    return Mining(**{"sources": Sources((Judged(collection),)), "sampling": SAMPLING, **settings})


def test_every_judged_query_gets_its_positive_and_hard_negatives(collection, tmp_path):
    report = mine(tmp_path / "out.jsonl", mining(collection))
    records = list(read_records(tmp_path / "out.jsonl"))
    assert {record.query_id for record in records} == {f"made/q{number}" for number in range(40)}
    for record in records:
        number = record.query_id.removeprefix("made/q")
        assert record.passage_ids[0] == f"made/d{number}"
        assert record.passages[0].startswith(f"rare{number} ")
        assert record.grades == (1, None, None, None, None)
        asked = set(record.query.split()[1:])
        assert all(asked & set(passage.split()) for passage in record.passages[1:]), "BM25 found it for a word"
    assert (report.num_queries, report.num_judged, report.num_positives, report.num_mined) == (40, 40, 40, 160)
    assert (report.num_passages, report.num_short, report.num_empty, report.num_resumed) == (60, 0, 0, 0)


def test_the_result_follows_the_seed(collection, tmp_path):
    texts = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        path = tmp_path / f"{name}.jsonl"
        mine(path, mining(collection, sampling=Sampling(num_negatives=4, depth=20, head_size=5, seed=seed)))
        texts.append(path.read_text())
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]
    assert sorted(texts[0]) != sorted(texts[2])  # other draws, not only another order


def test_a_killed_run_ends_with_the_file_of_an_unbroken_one(tmp_path, noisy_cross_encoder):
    collection = write_collection(tmp_path / "made", num_passages=150, num_queries=120)
    target = tmp_path / "killed.jsonl"
    partial = tmp_path / "killed.jsonl.partial"
    kill_after_lines(SCRIPT, [collection, noisy_cross_encoder, target], partial, 40)
    with partial.open("a") as handle:
        handle.write('{"query_id": "made/q')
    teacher = ("noisy", load_teacher(str(noisy_cross_encoder), ModelOptions(threads=1)))
    resumed = mine(target, mining(collection), teacher=teacher)
    unbroken = mine(tmp_path / "unbroken.jsonl", mining(collection), teacher=teacher)
    assert target.read_bytes() == (tmp_path / "unbroken.jsonl").read_bytes()
    assert resumed.num_resumed >= 32
    assert resumed.num_queries == unbroken.num_queries == 120
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed.jsonl", "made", "unbroken.jsonl"]


def test_a_run_is_not_resumed_with_other_settings_or_data(collection, tmp_path, cross_encoder):
    class Failing:
        is_logit = True

        def score(self, asks):
            if asks[0][0] != first[0]:
                raise KeyboardInterrupt
            return real.score(asks)

    real = load_teacher(str(cross_encoder), ModelOptions(threads=1))
    mine(tmp_path / "whole.jsonl", mining(collection))
    first = [next(read_records(tmp_path / "whole.jsonl")).query]
    target = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        mine(target, mining(collection), teacher=("t", Failing()))
    with pytest.raises(InputError, match="had `max_words` 200, now it is 100"):
        mine(target, mining(collection, max_words=100), teacher=("t", real))
    with (collection / "corpus.jsonl").open("a") as handle:
        handle.write(json.dumps({"id": "new", "text": "one more"}) + "\n")
    with pytest.raises(InputError, match="had `num_passages` 60, now it is 61"):
        mine(target, mining(collection), teacher=("t", real))


def test_questions_are_answered_from_the_joined_corpora(collection, tmp_path):
    other = write_collection(tmp_path / "other", num_passages=70, seed=9)
    questions = tmp_path / "asked.txt"
    questions.write_text("rare61 rare0\nzebra crossing\n")
    sources = Sources(corpora=(collection, other), questions=(questions,))
    report = mine(tmp_path / "out.jsonl", mining(collection, sources=sources))
    (record,) = read_records(tmp_path / "out.jsonl")
    assert set(record.passage_ids) == {"made/d0", "other/d0", "other/d61"}
    assert record.grades == (None, None, None)
    assert (report.num_empty, report.num_short, report.num_judged) == (1, 1, 0)


def test_dense_candidates_join_those_of_bm25(collection, tmp_path, token_states):
    encoder = load_encoder(str(token_states), ModelOptions(threads=1))
    with_both, dense_only = tmp_path / "both.jsonl", tmp_path / "dense.jsonl"
    mine(with_both, mining(collection), encoder=encoder)
    mine(dense_only, mining(collection, bm25=False), encoder=encoder)
    assert all(len(record.passages) == 5 for record in read_records(with_both))
    assert with_both.read_text() != dense_only.read_text()
    assert not list(tmp_path.glob("*.partial*"))


def test_cosines_tell_false_negatives_without_a_teacher(collection, tmp_path, token_states):
    encoder = load_encoder(str(token_states), ModelOptions(threads=1))
    filtering = FalseNegatives(score_share=0.9)
    report = mine(tmp_path / "out.jsonl", mining(collection, false_negatives=filtering), encoder=encoder)
    assert report.dropped.scored_high > 0
    for record in read_records(tmp_path / "out.jsonl"):
        assert not record.teacher_scores
        query, *passages = encoder.encode([record.query, *record.passages], "passage").vectors
        cosines = [float(query @ passage) for passage in passages]
        assert all(cosine <= 0.9 * cosines[0] + 1e-5 for cosine in cosines[1:])


def test_what_cannot_work_is_refused_before_any_work(collection, tmp_path):
    target = tmp_path / "out.jsonl"
    with pytest.raises(ConfigError, match="candidates must come from BM25 or an encoder"):
        mine(target, mining(collection, bm25=False))
    with pytest.raises(ConfigError, match=r"`score_share` needs an encoder or a teacher that scores, got 0\.9 alone"):
        mine(target, mining(collection, false_negatives=FalseNegatives(score_share=0.9)))
    with pytest.raises(ConfigError, match="`max_words` must be at least 1, got 0"):
        mining(collection, max_words=0)
    target.write_text("precious\n")
    with pytest.raises(InputError, match="exists already"):
        mine(target, mining(collection))
