import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from gliclass_rerank.errors import DataError
from gliclass_rerank.learn.data import mining_command as command
from gliclass_rerank.learn.data.records import read_records


@pytest.fixture
def run():
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command("mine")(command.mine)
    app.command("teach")(command.teach)

    def invoke(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None:
            raise result.exception
        return result.stdout

    return invoke


def test_mining_and_teaching_one_after_the_other(run, collection, cross_encoder, token_states, tmp_path):
    out = tmp_path / "out.jsonl"
    asked = tmp_path / "asked.tsv"
    asked.write_text("chain oil\t3\n")
    printed = run(
        *("mine", "--data", collection, "--questions", asked, "--out", out, "--negatives", 4, "--depth", 20),
        *("--head", 5, "--dense", token_states, "--dense-pooling", "mean", "--teacher", cross_encoder),
        *("--score-share", 0.95, "--threads", 1, "--seed", 2),
    )
    assert printed.splitlines()[0].split() == ["queries", "41", "(40", "judged)"]
    assert printed.splitlines()[-1].split() == ["written", str(out)]
    assert all(set(record.teacher_scores) == {"counting"} for record in read_records(out))
    printed = run(
        *("teach", "--records", out, "--teacher", token_states, "--kind", "late-interaction", "--threads", 1),
        *("--name", "late"),
    )
    lines = printed.splitlines()
    assert lines[0].split(maxsplit=1) == ["records", "41  (0 resumed)"]
    assert [line.split()[:2] for line in lines[4:6]] == [["nDCG@10", "counting"], ["nDCG@10", "late"]]
    assert lines[6].startswith("tau counting / late")
    assert all(set(record.teacher_scores) == {"counting", "late"} for record in read_records(out))


def test_json_output_has_the_same_figures(run, collection, cross_encoder, tmp_path):
    out = tmp_path / "out.jsonl"
    mined = json.loads(run("mine", "--data", collection, "--out", out, "--max-queries", 9, "--json"))
    assert (mined["num_queries"], mined["num_mined"], mined["dropped"]["duplicates"]) == (9, 144, 0)
    taught = json.loads(run("teach", "--records", out, "--teacher", cross_encoder, "--threads", 1, "--json"))
    assert taught["teacher"] == "counting"
    assert taught["num_pairs"] == 153
    assert taught["ndcg@10"].keys() == {"counting"}
    assert taught["kendall_tau"] == []


def test_words_are_cut_and_titles_left_out_on_request(run, collection, tmp_path):
    out = tmp_path / "out.jsonl"
    run("mine", "--data", collection, "--out", out, "--max-words", 5, "--no-titles")
    passages = [passage for record in read_records(out) for passage in record.passages]
    assert {len(passage.split()) for passage in passages} == {5}
    assert not any(passage.startswith("rare") for passage in passages)


def test_each_collection_may_have_its_own_split(run, collection, tmp_path):
    (collection / "qrels.dev.tsv").write_text("q3\td3\t1\n")
    out = tmp_path / "out.jsonl"
    run("mine", "--data", f"{collection}:dev", "--out", out)
    assert [record.query_id for record in read_records(out)] == ["made/q3"]
    with pytest.raises(DataError, match="no split 'test'; it has `dev`, `train`"):
        run("mine", "--data", collection, "--split", "test", "--out", tmp_path / "other.jsonl")


def test_bad_records_are_refused_before_the_teacher_is_loaded(run, tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text("nonsense\n")
    with pytest.raises(DataError, match=r"records\.jsonl:1: not JSON"):
        run("teach", "--records", path, "--teacher", tmp_path / "absent")


def test_importing_the_commands_loads_no_model_library():
    script = (
        "import sys; from gliclass_rerank.learn.data import mine, mining_command, teach;"
        "print([name for name in ('torch', 'onnxruntime', 'bm25s', 'sentence_transformers') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
