"""Sources of texts: a student learns which texts a teacher's vectors hold for alike."""

import numpy as np
import pytest
from tiny_checkpoints import WORDS
from training_data import tiny_run, write_lines

from gliclass_rerank.errors import ConfigError, DataError
from gliclass_rerank.learn.training import LossConfig, SourceConfig, StartConfig, train
from gliclass_rerank.learn.training.curves import read_rows
from gliclass_rerank.learn.training.sources import load_source
from gliclass_rerank.learn.training.stream import Stream

NUM_TEXTS, WIDTH, SIZE = 50, 6, 8


@pytest.fixture
def folder(tmp_path):
    """Texts of two words; the vectors of a teacher who only looks at the first one."""
    rng = np.random.default_rng(1)
    first, second = (rng.integers(WIDTH, size=NUM_TEXTS).tolist() for _ in range(2))
    texts = [{"text": f"{WORDS[a]} {WORDS[WIDTH + b]}", "is_query": False} for a, b in zip(first, second, strict=True)]
    (tmp_path / "texts").mkdir()
    write_lines(tmp_path / "texts/texts.jsonl", texts)
    np.save(tmp_path / "texts/mpnet.npy", np.eye(WIDTH, dtype=np.float16)[first])
    return tmp_path / "texts"


@pytest.fixture(scope="session")
def model(tiny_folders):
    return tiny_folders["bert"]


def source_of(folder, teacher="mpnet"):
    loss = LossConfig(name="relational", teachers=(teacher,), temperature=0.2, teacher_temperature=0.2)
    return SourceConfig(path=folder, kind="texts", max_candidates=SIZE, losses=(loss,))


def shared_query(model):
    return StartConfig(model=str(model), attention_plan="shared_query")


@pytest.mark.parametrize("packed", [False, True])
def test_the_student_learns_which_texts_are_alike(tmp_path, model, folder, packed):
    config = tiny_run(
        tmp_path / "out",
        model,
        folder,
        sources=(source_of(folder),),
        start=shared_query(model),
        steps=40,
        packed=packed,
        schedule="constant",
    )
    train(config)
    losses = [float(row["loss"]) for row in read_rows(tmp_path / "out/train.csv")]
    assert np.mean(losses[-4:]) < 0.5 * np.mean(losses[:4])


def test_an_item_is_a_run_of_neighbours_with_their_own_vectors(folder):
    config = source_of(folder)
    records = load_source(config, 0)
    assert len(records) == NUM_TEXTS // SIZE
    record = records[2]
    assert len(record.texts) == SIZE
    assert (record.vectors["mpnet"] == np.load(folder / "mpnet.npy")[2 * SIZE : 3 * SIZE]).all()
    assert record.place.endswith("rows 16 to 23")

    class Planned:
        def plan(self, request, **_):
            assert request.text == ""
            return request

    for position in range(4):
        question = Stream([(config, records)], Planned(), seed=0)[position].question
        seen = [WORDS.index(text.split()[0]) for text in question.candidates]
        assert question.vectors["mpnet"].argmax(axis=1).tolist() == seen


def test_vectors_that_are_not_those_of_the_texts_are_refused(folder):
    with pytest.raises(DataError, match=r"has no vectors of the teacher 'bge', a file `<teacher>\.npy`"):
        load_source(source_of(folder, "bge"), 0)
    with pytest.raises(DataError, match=r"has no vectors of the teacher '\.\./texts/mpnet'"):
        load_source(source_of(folder, "../texts/mpnet"), 0)
    np.save(folder / "mpnet.npy", np.zeros((NUM_TEXTS - 1, WIDTH), np.float16))
    with pytest.raises(DataError, match=rf"must hold a row of floats for each of the {NUM_TEXTS} texts, got \(49, 6\)"):
        load_source(source_of(folder), 0)
    np.save(folder / "mpnet.npy", np.array([{}] * NUM_TEXTS, dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read"):
        load_source(source_of(folder), 0)
    (folder / "texts.jsonl").unlink()
    with pytest.raises(DataError, match=r"has no texts\.jsonl, plain or \.gz"):
        load_source(source_of(folder), 0)


def test_texts_that_would_see_each_other_are_refused(tmp_path, model, folder):
    start = StartConfig(model=str(model), attention_plan="joint")
    with pytest.raises(ConfigError, match="needs a plan in which candidates do not see each other, got 'joint'"):
        train(tiny_run(tmp_path / "out", model, folder, sources=(source_of(folder),), start=start))
