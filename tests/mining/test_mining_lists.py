import re

import list_data
import numpy as np
import pytest
import tiny_onnx
from list_data import LEAKED_PASSAGE, LEAKED_QUESTION, SharedWords, WordEncoder
from tiny_checkpoints import WORDS

from gliclass_rerank.errors import ConfigError, DataError
from gliclass_rerank.learn.data.lists import command, join, packed, steps
from gliclass_rerank.learn.data.lists.asking import open_corpus
from gliclass_rerank.learn.data.lists.block import block_arrays, load_block, save_arrays
from gliclass_rerank.learn.data.lists.dev import write_dev_sets
from gliclass_rerank.learn.data.lists.forms import Form, TextRef, text_of
from gliclass_rerank.learn.data.lists.kinds import KINDS
from gliclass_rerank.learn.data.lists.mine_block import mine_block
from gliclass_rerank.learn.data.lists.mixtures import CROSS, DENSE, LATE, MIXTURES, MPNET, mixed
from gliclass_rerank.learn.data.lists.packed import load_packed
from gliclass_rerank.learn.data.lists.scores import chunks_of, grow_scores, read_scores
from gliclass_rerank.learn.data.lists.sources import Item
from gliclass_rerank.learn.data.lists.teachers import TEACHERS, Teacher, teacher_named
from gliclass_rerank.learn.data.lists.vectors import CHUNK, grow_vectors, read_vectors
from gliclass_rerank.learn.evaluation.collection import load_collection
from gliclass_rerank.learn.evaluation.files import read_jsonl
from gliclass_rerank.learn.training.records import ranking_record
from gliclass_rerank.text_models.options import ModelOptions

BLOCK = 5  # with the passages that are held out, were they not


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return list_data.write_data(tmp_path_factory.mktemp("lists") / "data")


@pytest.fixture(scope="module")
def made(data, tmp_path_factory):
    return mine_block(open_corpus(data), BLOCK, WordEncoder(), tmp_path_factory.mktemp("scratch"))[0]


@pytest.fixture(scope="module")
def texts(data, made):
    return join.block_texts(data, made)


@pytest.fixture(scope="module")
def token_models(tmp_path_factory):
    """Folders of a model that gives token states and of one that scores pairs, and the states' width."""
    folder = tmp_path_factory.mktemp("models")
    width = len(tiny_onnx.SPECIAL) + len(WORDS)
    return tiny_onnx.write_token_states(folder / "states"), tiny_onnx.write_cross_encoder(folder / "pairs"), width


def written(folder, made):
    """A folder of blocks that holds these lists."""
    block = folder / f"block-{BLOCK:02}"
    (block / "vectors").mkdir(parents=True)
    (block / "scores").mkdir()
    save_arrays(block / "lists.npz", block_arrays(made))
    return block


def test_every_list_holds_what_its_query_asks_for_among_other_passages(made, texts):
    kinds = {KINDS[kind].name for kind in made.kind.tolist()}
    assert {
        "web",
        "web-keywords",
        "web-asked",
        "technical",
        "similar",
        "titles",
        "beginnings-wiki",
    } <= kinds
    for number in range(len(made)):
        rows = made.candidate[made.slots(number)].tolist()
        assert 6 <= len(rows) == len(set(rows)) <= 12
        query = texts[made.query[number]]
        assert query not in [texts[row] for row in rows]
        if KINDS[made.kind[number]].name == "web":
            (wanted,) = re.findall(r"boolq\d+", query)
            relevant = [
                texts[row] for row, grade in zip(rows, made.grade[made.slots(number)], strict=True) if grade > 0
            ]
            assert len(relevant) == 1
            assert wanted in relevant[0].split()


def test_a_query_taken_from_a_passage_finds_its_rest_and_not_the_passage(made, texts):
    refs = made.refs()
    numbers = [n for n in range(len(made)) if KINDS[made.kind[n]].name.startswith("beginnings")]
    for number in numbers:
        asked = refs[made.query[number]]
        found = [refs[row] for row in made.candidate[made.slots(number)]]
        own = [ref.form for ref in found if (ref.source, ref.number) == (asked.source, asked.number)]
        assert own == [Form.REST]
        assert texts[made.query[number]] not in " ".join(texts[row] for row in made.candidate[made.slots(number)])
    assert numbers


def test_nothing_of_evaluation_sets_or_held_out_judgments_is_in_a_list(data, made, texts):
    assert not {LEAKED_PASSAGE, LEAKED_QUESTION} & set(texts)
    assert not any(text.endswith(LEAKED_PASSAGE) for text in texts)
    corpus = open_corpus(data)
    held = {name: corpus.judged(name) for name in ("boolq", "tldr")}
    for ref in made.refs():
        name, _, part = ref.source.partition("/")
        if part == "corpus":
            assert ref.number not in held[name].held_documents
        elif part == "queries":
            assert ref.number in held[name].train
    assert held["tldr"].held.keys() == set(range(60)), "the dev split"
    assert held["boolq"].held_documents == set(range(1056, 1104)), "a part of a collection without one"


def test_any_beginning_of_a_block_is_a_fair_sample_of_its_kinds(made):
    shares = np.bincount(made.kind, minlength=len(KINDS)) / len(made)
    half = made.kind[: len(made) // 2]
    assert np.abs(np.bincount(half, minlength=len(KINDS)) / len(half) - shares).max() < 0.02


def test_a_block_holds_its_own_part_of_the_passages_alone(data, made, tmp_path):
    other = mine_block(open_corpus(data), BLOCK + 1, WordEncoder(), tmp_path)[0]
    mine, others = (
        {(ref.source, ref.number) for ref in block.refs() if ref.source == "tldr/corpus"} for block in (made, other)
    )
    assert mine
    assert others
    assert not mine & others


def test_a_stopped_run_embeds_the_rest_and_ends_with_the_same_vectors(tmp_path):
    texts = [f"text {number}" for number in range(3 * CHUNK + 5)]
    is_query = [number % 3 == 0 for number in range(len(texts))]
    grow_vectors(tmp_path / "whole.f16", texts, is_query, WordEncoder())
    path = tmp_path / "stopped.f16"
    with pytest.raises(KeyboardInterrupt):
        grow_vectors(path, texts, is_query, WordEncoder(fails_after=2 * CHUNK + 20))
    with path.open("ab") as file:
        file.write(bytes(3 * 2 * list_data.WIDTH + 7))  # a part of a chunk, and of a row
    encoder = WordEncoder()
    grow_vectors(path, texts, is_query, encoder, num_texts=2 * CHUNK)
    assert encoder.num_texts < 10, "nothing is left to do before that row"
    grow_vectors(path, texts, is_query, encoder)
    assert path.read_bytes() == (tmp_path / "whole.f16").read_bytes()
    assert encoder.num_texts < CHUNK + 20
    assert len(read_vectors(path, list_data.WIDTH)) == len(texts)


def test_a_stopped_run_scores_the_rest_and_ends_with_the_same_scores(made, texts, tmp_path):
    grow_scores(tmp_path / "whole.f16", made, CROSS, texts, SharedWords())
    path = tmp_path / "stopped.f16"
    with pytest.raises(KeyboardInterrupt):
        grow_scores(path, made, CROSS, texts, SharedWords(fails_after=80))
    assert len(read_scores(path, made, CROSS)) == 64
    with path.open("ab") as file:
        file.write(b"\1\2\3")
    teacher = SharedWords()
    grow_scores(path, made, CROSS, texts, teacher, num_lists=64)
    assert teacher.num_asks == 0
    grow_scores(path, made, CROSS, texts, teacher)
    assert path.read_bytes() == (tmp_path / "whole.f16").read_bytes()
    wanted = {n for n in range(len(made)) if CROSS in MIXTURES[KINDS[made.kind[n]].target].weights}
    assert read_scores(path, made, CROSS).keys() == wanted
    assert teacher.num_asks == len(wanted) - 64


def test_late_interaction_reads_lists_of_one_kind_together(made):
    chunks = chunks_of(made, LATE)
    assert all(len({int(made.kind[number]) for number in chunk}) == 1 for chunk in chunks)
    assert sorted(number for chunk in chunks for number in chunk) == [
        n for n in range(len(made)) if LATE in MIXTURES[KINDS[made.kind[n]].target].weights
    ]


def test_packed_lists_become_records_with_scores_and_a_mixture(data, made, texts, tmp_path, monkeypatch):
    for name in (MPNET, DENSE):
        monkeypatch.setitem(TEACHERS, name, Teacher(ModelOptions(), list_data.WIDTH))
    block = written(tmp_path / "work", made)
    grow_vectors(block / "vectors" / f"{DENSE}.f16", texts, made.text_is_query, WordEncoder())
    grow_vectors(block / "vectors" / f"{MPNET}.f16", texts, made.text_is_query, WordEncoder(), num_texts=CHUNK)
    grow_scores(block / "scores" / f"{CROSS}.f16", made, CROSS, texts, SharedWords())
    report = packed.pack_block(tmp_path / "work", BLOCK, tmp_path / "lists.npz")
    assert sum(report.num_lists.values()) == report.num_scored[DENSE] == len(made) > report.num_scored[MPNET] > 0
    assert report.num_bytes < 50 * len(made)

    out = tmp_path / "records.jsonl"
    assert join.join_files(data, [tmp_path / "lists.npz"], out) == len(made)
    vectors = read_vectors(block / "vectors" / f"{DENSE}.f16", list_data.WIDTH).astype(np.float32)
    for number, line in enumerate(read_jsonl(out)):
        record = ranking_record(line)
        rows = made.candidate[made.slots(number)]
        assert record.query == texts[made.query[number]]
        assert record.passages == tuple(texts[row] for row in rows)
        cosines = vectors[rows] @ vectors[made.query[number]]
        assert np.abs(record.teacher_scores[DENSE] - cosines).max() < 0.005, "an eighth of a byte's step"
        if KINDS[made.kind[number]].target == "web":
            bonus = 1.5 * (np.nan_to_num(record.grades, nan=0) > 0)
            assert np.allclose(
                record.teacher_scores["mixture"], np.array(record.teacher_scores[CROSS]) + bonus, atol=1e-3
            )
        assert (MPNET in record.teacher_scores) >= (
            line.fields["kind"] == "technical" and "mixture" in record.teacher_scores
        )

    complete = join.join_files(data, [tmp_path / "lists.npz"], out, kinds=["technical"], mixed_only=True)
    records = list(read_jsonl(out))
    assert 0 < complete == len(records) < report.num_lists["technical"]
    assert {record.fields["kind"] for record in records} == {"technical"}


def test_texts_are_written_with_the_vectors_that_all_teachers_have(data, made, texts, tmp_path, monkeypatch):
    for name in (MPNET, DENSE):
        monkeypatch.setitem(TEACHERS, name, Teacher(ModelOptions(), list_data.WIDTH))
    block = written(tmp_path / "work", made)
    grow_vectors(block / "vectors" / f"{DENSE}.f16", texts, made.text_is_query, WordEncoder())
    grow_vectors(block / "vectors" / f"{MPNET}.f16", texts, made.text_is_query, WordEncoder(), num_texts=CHUNK)
    assert join.write_texts(data, tmp_path / "work", BLOCK, [DENSE, MPNET], tmp_path / "out") == CHUNK
    rows = list(read_jsonl(tmp_path / "out" / "texts.jsonl"))
    assert [row.fields["text"] for row in rows] == texts[:CHUNK]
    stored = np.load(tmp_path / "out" / f"{MPNET}.npy", allow_pickle=False)
    for row in (0, 5, CHUNK - 1):
        role = "query" if rows[row].fields["is_query"] else "passage"
        assert np.allclose(stored[row], WordEncoder().encode([texts[row]], role).vectors[0], atol=0.03)


def test_other_data_than_that_of_mining_is_refused(made, tmp_path):
    other = list_data.write_data(tmp_path / "data", num_passages=1100)
    with pytest.raises(DataError, match="is not the file that the lists were made from"):
        join.block_texts(other, made)


@pytest.mark.parametrize(
    "name", ["candidate", "query", "text_source", "text_form", "kind", "start", "grade", "text_index"]
)
def test_a_broken_block_is_an_error_of_ours(data, made, tmp_path, name):
    arrays = block_arrays(made)
    path = tmp_path / "lists.npz"
    for broken in (arrays[name] + arrays[name].dtype.type(120), arrays[name][:-1], arrays[name].astype(float)):
        if name == "grade" and broken.dtype.kind == "i" and len(broken) == len(made.grade):
            continue
        save_arrays(path, {**arrays, name: broken})
        if name == "text_index" and broken.dtype.kind == "u" and len(broken) == made.num_texts:
            save_arrays(path, {**arrays, name: broken + np.uint32(1_000_000)})
            broken_block = load_block(path)
            with pytest.raises(DataError, match="none of the number"):
                join.block_texts(data, broken_block)
            continue
        with pytest.raises(DataError):
            load_block(path)
    save_arrays(path, {key: value for key, value in arrays.items() if key != name})
    with pytest.raises(DataError, match="is missing"):
        load_block(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="cannot be read"):
        load_block(path)


def test_a_mixture_is_the_mean_of_what_stands_out_in_the_list():
    first, second = np.array([0.1, 0.5, 0.9], dtype=np.float32), np.array([3, 1, 5], dtype=np.float32)
    scores = mixed(MIXTURES["technical"], {MPNET: first, DENSE: second}, [-1, -1, -1])
    summed = (first - first.mean()) / first.std() + (second - second.mean()) / second.std()
    assert np.corrcoef(scores, summed)[0, 1] > 0.9999
    assert scores.std() == pytest.approx(3, rel=1e-4)
    assert scores.mean() == pytest.approx(-4, abs=1e-4)
    judged = mixed(MIXTURES["technical"], {MPNET: first, DENSE: second}, [1, 0, -1])
    assert np.allclose(judged - scores, [1.5, 0, 0], atol=1e-5)
    assert mixed(MIXTURES["technical"], {MPNET: first}, [-1, -1, -1]) is None
    assert np.isfinite(mixed(MIXTURES["technical"], {MPNET: first * 0, DENSE: second * 0}, [-1, -1, -1])).all()


def test_the_same_record_in_the_same_form_is_the_same_text():
    words = " ".join(f"word{number}" for number in range(150))
    items = [Item("a", "Some title", words), *[Item(f"{n}", "", f"What is the cog of hub {n}?") for n in range(5)]]

    def text(number, form):
        return text_of(TextRef("made/corpus", number, form, False), items)

    assert text(0, Form.PASSAGE).split() == ["Some", "title", *words.split()[:94]]
    assert text(0, Form.LONG) == f"Some title {words}"
    assert text(0, Form.BODY).split() == words.split()[:96]
    beginning, rest = text(0, Form.BEGINNING).split(), text(0, Form.REST).split()
    assert len(beginning) in {12, 20, 30, 45}
    assert [*beginning, *rest] == words.split()[: len(beginning) + 96]
    assert text(1, Form.BEGINNING) == text(1, Form.REST) == ""
    assert text(1, Form.KEYWORDS) == "cog hub 0"
    assert text(1, Form.JOINED) == " ".join(item.text for item in items[1:4])
    changed = [text(number, Form.REWORDED) for number in range(1, 6)]
    assert changed == [text(number, Form.REWORDED) for number in range(1, 6)]
    assert len({re.sub(r"\d", "", one) for one in changed}) > 1


def test_dev_sets_hold_what_no_list_may_ask(data, made, texts, tmp_path):
    counts = write_dev_sets(data, tmp_path / "dev", num_queries=10, num_candidates=8)
    assert counts.keys() == {"boolq", "tldr"}
    assert counts["boolq"] == counts["tldr"] == 10
    asked = {texts[row] for row in np.unique(made.query).tolist()}
    for name in counts:
        collection = load_collection(tmp_path / "dev" / name, "dev")
        assert len(collection.queries) == counts[name]
        assert not asked & set(collection.queries.values())
        for query_id, candidates in collection.candidates.items():
            relevant = [doc for doc, grade in collection.qrels[query_id].items() if grade > 0]
            assert len(relevant) == 1
            assert relevant[0] in candidates
            assert 2 <= len(candidates) <= 8
    with pytest.raises(FileExistsError):
        (tmp_path / "dev").mkdir()


def test_the_steps_go_from_data_to_records_with_real_models(data, token_models, tmp_path, monkeypatch):
    states, cross_encoder, width = token_models
    monkeypatch.setitem(TEACHERS, DENSE, Teacher(ModelOptions(kind="encoder", pooling="mean"), width))
    work = tmp_path / "work"
    for _ in range(2):  # the second time there is nothing to do
        steps.mine_step(data, work, BLOCK, str(states), DENSE, threads=1)
        steps.encode_step(data, work, BLOCK, str(states), DENSE, threads=1)
    folder = steps.block_folder(work, BLOCK)
    assert sorted(path.name for path in folder.iterdir()) == ["lists.npz", "vectors"]
    block = load_block(folder / "lists.npz")
    kept = (folder / "vectors" / f"{DENSE}.f16").read_bytes()
    (folder / "vectors" / f"{DENSE}.f16").unlink()
    steps.encode_step(data, work, BLOCK, str(states), DENSE, threads=1)
    again = np.frombuffer((folder / "vectors" / f"{DENSE}.f16").read_bytes(), dtype=np.float16)
    assert np.allclose(again, np.frombuffer(kept, dtype=np.float16), atol=2e-3)
    steps.score_step(data, work, BLOCK, str(cross_encoder), CROSS, threads=1, num_lists=40)
    report = packed.pack_block(work, BLOCK, tmp_path / "lists.npz")
    assert report.num_scored == {DENSE: len(block), CROSS: 64}
    assert f"{len(block)} lists" in report.told()


def test_unknown_teachers_and_blocks_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="a teacher must be one of"):
        teacher_named("gpt")
    with pytest.raises(ConfigError, match="from 0 to 15, got 16"):
        steps.block_folder(tmp_path, 16)
    with pytest.raises(ConfigError, match="makes no vectors"):
        steps.encode_step(tmp_path, tmp_path, 0, "x", CROSS, threads=1)


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["lists", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        command.main()
    return ended.value.code


def test_the_commands_print_what_they_made_and_errors_in_one_line(data, made, tmp_path, monkeypatch, capsys):
    written(tmp_path / "work", made)
    file, records = tmp_path / "lists.npz", tmp_path / "records.jsonl"
    assert not run(monkeypatch, "pack", "--work", tmp_path / "work", "--block", BLOCK, "--out", file)
    assert f"{len(made)} lists, " in capsys.readouterr().out
    assert not run(monkeypatch, "join", "--data", data, file, "--out", records)
    assert capsys.readouterr().out == f"{len(made)} records\n"
    assert not run(monkeypatch, "dev", "--data", data, "--out", tmp_path / "dev", "--queries", 3, "--candidates", 4)
    assert "boolq\t3 queries" in capsys.readouterr().out
    assert run(monkeypatch, "pack", "--work", tmp_path / "work", "--block", BLOCK + 1, "--out", file) == 2
    assert re.fullmatch(r"error: .*lists\.npz: cannot be read: .*\n", capsys.readouterr().err)
    assert run(monkeypatch, "dev", "--data", data, "--out", tmp_path / "none" / "dev") == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_mining_that_is_stopped_after_its_lists_makes_the_missing_vectors(data, token_models, tmp_path, monkeypatch):
    states, _, width = token_models
    monkeypatch.setitem(TEACHERS, DENSE, Teacher(ModelOptions(kind="encoder", pooling="mean"), width))
    with monkeypatch.context() as stopped:
        stopped.setattr(steps, "_complete", list_data.stop)
        with pytest.raises(KeyboardInterrupt):
            steps.mine_step(data, tmp_path, BLOCK, str(states), DENSE, threads=1)
    folder = steps.block_folder(tmp_path, BLOCK)
    block = load_block(folder / "lists.npz")
    known = read_vectors(folder / f"scratch-{DENSE}" / "known.f16", width)
    rests = np.isin(block.text_form, [Form.REST])
    assert np.array_equal(~known.any(axis=1), rests), "mining looks for no rest of a passage"
    steps.mine_step(data, tmp_path, BLOCK, str(states), DENSE, threads=1)
    vectors = read_vectors(folder / "vectors" / f"{DENSE}.f16", width)
    assert np.array_equal(vectors[~rests], known[~rests])
    assert rests.any()
    assert vectors.any(axis=1).all()
    assert sorted(path.name for path in folder.iterdir()) == ["lists.npz", "vectors"]


def test_a_packed_file_is_gone_on_with_where_its_scores_end(data, made, texts, tmp_path, monkeypatch):
    monkeypatch.setitem(TEACHERS, DENSE, Teacher(ModelOptions(), list_data.WIDTH))
    block = written(tmp_path / "first", made)
    grow_vectors(block / "vectors" / f"{DENSE}.f16", texts, made.text_is_query, WordEncoder(), num_texts=CHUNK)
    grow_scores(block / "scores" / f"{CROSS}.f16", made, CROSS, texts, SharedWords(), num_lists=64)
    before = packed.pack_block(tmp_path / "first", BLOCK, tmp_path / "first.npz")

    again = tmp_path / "second" / f"block-{BLOCK:02}"
    again.mkdir(parents=True)
    (again / "lists.npz").write_bytes((tmp_path / "first.npz").read_bytes())
    encoder, teacher = WordEncoder(), SharedWords()
    monkeypatch.setattr(steps, "load_encoder", lambda *_: encoder)
    monkeypatch.setattr(steps, "load_teacher", lambda *_: teacher)
    steps.encode_step(data, tmp_path / "second", BLOCK, "", DENSE, threads=1)
    steps.score_step(data, tmp_path / "second", BLOCK, "", CROSS, threads=1)
    after = packed.pack_block(tmp_path / "second", BLOCK, tmp_path / "second.npz")
    assert before.num_scored == {DENSE: before.num_scored[DENSE], CROSS: 64}
    assert after.num_scored[DENSE] == len(made)
    assert teacher.num_asks == after.num_scored[CROSS] - 64
    assert encoder.num_texts < len(texts) + 20
    assert not read_vectors(again / "vectors" / f"{DENSE}.f16", list_data.WIDTH)[0].any(), (
        "scored lists' texts are not read"
    )

    first, second = load_packed(tmp_path / "first.npz"), load_packed(tmp_path / "second.npz")
    for number in range(len(made)):
        scores = second.scores_of(number)
        for name, values in first.scores_of(number).items():
            assert np.abs(values - scores[name]).max() < 0.02
    steps.encode_step(data, tmp_path / "second", BLOCK, "", DENSE, threads=1)
    (again / "lists.npz").write_bytes((tmp_path / "second.npz").read_bytes())
    steps.mine_step(data, tmp_path / "second", BLOCK, "", DENSE, threads=1)
    assert encoder.num_texts < len(texts) + 20, "nothing is left to do"


def test_only_what_a_mixture_wants_may_be_embedded(data, made, tmp_path, monkeypatch):
    monkeypatch.setitem(TEACHERS, DENSE, Teacher(ModelOptions(), list_data.WIDTH))
    block = written(tmp_path, made)
    encoder = WordEncoder()
    monkeypatch.setattr(steps, "load_encoder", lambda *_: encoder)
    steps.encode_step(data, tmp_path, BLOCK, "", DENSE, threads=1, for_mixtures=True)
    wanting = {n for n in range(len(made)) if DENSE in MIXTURES[KINDS[made.kind[n]].target].weights}
    report = packed.pack_block(tmp_path, BLOCK, tmp_path / "lists.npz")
    assert len(wanting) <= report.num_scored[DENSE] < len(made) // 2
    assert wanting <= load_packed(tmp_path / "lists.npz").scored_by(DENSE)
    vectors = read_vectors(block / "vectors" / f"{DENSE}.f16", list_data.WIDTH)
    assert len(vectors) == made.num_texts
    embedded = int(vectors.any(axis=1).sum())
    assert embedded < made.num_texts
    assert join.write_texts(data, tmp_path, BLOCK, [DENSE], tmp_path / "out") == embedded


def test_kinds_that_are_named_are_embedded_and_no_others(data, made, tmp_path, monkeypatch):
    monkeypatch.setitem(TEACHERS, DENSE, Teacher(ModelOptions(), list_data.WIDTH))
    written(tmp_path, made)
    monkeypatch.setattr(steps, "load_encoder", lambda *_: WordEncoder())
    kind = KINDS[made.kind[0]].name
    with pytest.raises(ConfigError, match=r"a kind must be one of .*, got .*websites"):
        steps.encode_step(data, tmp_path, BLOCK, "", DENSE, threads=1, kinds=["websites"])
    with pytest.raises(ConfigError, match=r"a kind must be one of .*, got .*websites"):
        join.join_files(data, [], tmp_path / "none.jsonl", kinds=["websites"])
    assert not (tmp_path / "none.jsonl").exists()
    steps.encode_step(data, tmp_path, BLOCK, "", DENSE, threads=1, kinds=[kind])
    packed.pack_block(tmp_path, BLOCK, tmp_path / "lists.npz")
    wanting = {number for number in range(len(made)) if KINDS[made.kind[number]].name == kind}
    scored = load_packed(tmp_path / "lists.npz").scored_by(DENSE)
    assert wanting <= scored
    assert len(scored) < len(made)
