import dataclasses
import json
import os
import subprocess
import sys

import pytest

import gliclass_rerank
from gliclass_rerank._version import __version__
from gliclass_rerank.cli import app as cli
from gliclass_rerank.runtime import export, graph_cache
from gliclass_rerank.settings import RerankerSettings
from gliclass_rerank.types import Hit, Ranking, Truncation


class OverlapReranker:
    """Counts the words a passage shares with the query; for tests whose subject is not the model."""

    settings = None

    def __init__(self, model=None, **settings):
        given = {name: value for name, value in settings.items() if value is not None}
        type(self).settings = {"model": model, **given}
        self.name = model or "overlap"

    def rank(self, query, passages, top_k=None, where=None, spans=False, diversity=None):
        words = set(query.split())
        overlaps = [len(words & set(passage.split())) for passage in passages]
        order = sorted(range(len(passages)), key=lambda index: (-overlaps[index], index))
        truncated = (Truncation(0, num_tokens=9, num_lost=2),) if "long" in words else ()
        hits = tuple(
            Hit(index, overlaps[index] / 10, float(overlaps[index]), passages[index]) for index in order[:top_k]
        )
        return Ranking(hits, truncated)


@pytest.fixture
def fake_reranker(monkeypatch):
    monkeypatch.setattr(gliclass_rerank, "Reranker", OverlapReranker)
    return OverlapReranker


@pytest.fixture
def passages(tmp_path):
    path = tmp_path / "passages.txt"
    path.write_text("brakes squeal\n\nchain oil\nchain and brakes squeal\n")
    return str(path)


@pytest.fixture
def collection(tmp_path):
    folder = tmp_path / "toy"
    folder.mkdir()
    rows = {
        "queries.jsonl": [
            {"id": "q1", "text": "noise when braking"},
            {"id": "q2", "text": "hole in the tube"},
        ],
        "corpus.jsonl": [
            {"id": "d1", "text": "A brake that squeals needs its pads cleaned."},
            {"id": "d2", "text": "A puncture is repaired with a patch on the inner tube."},
            {"id": "d3", "text": "Raise the saddle until the leg is almost straight."},
        ],
        "candidates.jsonl": [
            {"query_id": "q1", "doc_ids": ["d3", "d2", "d1"]},
            {"query_id": "q2", "doc_ids": ["d1", "d3", "d2"]},
        ],
    }
    for name, objects in rows.items():
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in objects))
    (folder / "qrels.test.tsv").write_text("q1\td1\t1\nq2\td2\t1\n")
    return str(folder)


def error_of(capsys, arguments, code=2):
    """Run the command line, which must fail with one line on stderr; return that line."""
    assert cli.main(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err.rstrip("\n")


def test_rank_prints_rank_score_line_and_passage(fake_reranker, passages, capsys):
    assert cli.main(["rank", "--query", "chain squeal", "--passages", passages, "--top-k", "2"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "rank   score   line  passage",
        "   1  0.2000      4  chain and brakes squeal",
        "   2  0.1000      1  brakes squeal",
    ]
    assert captured.err == ""


def test_rank_json_prints_one_object(fake_reranker, passages, capsys):
    assert cli.main(["rank", "--query", "long chain", "--passages", passages, "--top-k", "1", "--json"]) == 0
    captured = capsys.readouterr()
    printed = json.loads(captured.out)
    assert printed == printed | {
        "query": "long chain",
        "model": "overlap",
        "hits": [
            {"rank": 1, "index": 1, "logit": 1.0, "score": 0.1, "line": 3, "text": "chain oil"},
        ],
        "truncated": [{"index": 0, "num_tokens": 9, "num_lost": 2}],
        "truncated_query": None,
        "repaired": [],
        "repaired_query": False,
        "num_tokens": 0,
    }
    assert "id" not in printed
    assert captured.err == ""


def test_rank_hands_the_model_options_on(fake_reranker, passages, capsys):
    options = {"model": "folder", "device": "cpu", "plan": "joint", "backend": "onnx", "dtype": "int8", "threads": 2}
    options |= {"passage_cache": "cache", "revision": "abc", "batch_tokens": 64, "num_examples": 2}
    arguments = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    assert cli.main(["rank", "--query", "chain", "--passages", passages, *arguments]) == 0
    assert fake_reranker.settings == options


@pytest.mark.parametrize("command", ["rank", "batch", "evaluate", "optimize", "precompute"])
def test_every_command_takes_every_setting_of_a_reranker(command, capsys):
    assert cli.main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    for field in dataclasses.fields(RerankerSettings):
        name = f"  --{field.name.replace('_', '-')} "
        assert (name in shown) == ((command, field.name) != ("evaluate", "allow_same_text"))


def test_the_help_of_an_option_is_the_first_clause_of_its_docstring(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    cli.main(["rank", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "--revision <str> Branch, tag or commit of a hub model. " in shown
    assert "--num-examples <int> Maximum number of examples shown. [default: 3]" in shown


def test_options_reach_the_model_in_their_types(passages, tiny_folders, capsys):
    options = ["--min-example-similarity", "1.5", "--model", str(tiny_folders["bert"]), "--no-allow-same-text"]
    message = error_of(capsys, ["rank", "--query", "chain", "--passages", passages, *options])
    assert message.startswith("error: `min_example_similarity` must be between -1 and 1, got 1.5; see `gliclass-rerank")


def test_rank_notes_on_stderr_which_passages_were_cut(fake_reranker, passages, capsys):
    assert cli.main(["rank", "--query", "long", "--passages", passages]) == 0
    assert capsys.readouterr().err == "note: cut to fit the model's window: line 1\n"


def test_rank_cuts_a_passage_to_the_terminal_and_prints_no_control_characters(
    fake_reranker, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "60")
    path = tmp_path / "passages.txt"
    path.write_text("\x1b[31mred  \t" + "word " * 40 + "\n")
    assert cli.main(["rank", "--query", "q", "--passages", str(path)]) == 0
    row = capsys.readouterr().out.splitlines()[1]
    assert row.startswith("   1  0.0000      1  [31mred word word")
    assert row.endswith("word…")
    assert len(row) <= 60


def test_evaluate_prints_before_and_after(fake_reranker, collection, capsys):
    assert cli.main(["evaluate", "--data", collection, "--split", "test"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[:4] == [  # the positives stand at ranks 3 and 3, then 3 and 2
        "nDCG@10     0.5000 -> 0.5655",
        "MRR@10      0.3333 -> 0.4167",
        "queries     2",
        "passages    6",
    ]
    assert lines[4].startswith("passages/s  ")
    assert lines[5:] == ["model       overlap"]
    assert captured.err == ""  # no progress bar where stderr is not a terminal


def test_evaluate_takes_other_files_and_a_limit(fake_reranker, collection, tmp_path, capsys):
    (tmp_path / "toy" / "other.tsv").write_text("q2\td1\t1\n")
    lists = tmp_path / "lists.jsonl"
    lists.write_text('{"query_id": "q1", "doc_ids": ["d1"]}\n{"query_id": "q2", "doc_ids": ["d1"]}\n')
    files = ["--qrels", "other.tsv", "--candidates", str(lists)]
    assert cli.main(["evaluate", "--data", collection, "--split", "any", *files, "--limit", "5", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["queries"], report["passages"]) == (1, 1)
    assert report["first_stage"] == report["reranked"] == {"ndcg@10": 1.0, "mrr@10": 1.0}


def test_evaluate_writes_the_run(fake_reranker, collection, tmp_path, capsys):
    path = tmp_path / "run.trec"
    arguments = ["--data", collection, "--split", "test", "--limit", "1", "--run-out", str(path)]
    assert cli.main(["evaluate", *arguments]) == 0
    assert path.read_text() == "".join(
        f"q1 Q0 {doc_id} {rank} {4 - rank} gliclass-rerank\n" for rank, doc_id in enumerate(["d3", "d2", "d1"], start=1)
    )


def test_help_and_version_succeed(capsys):
    assert cli.main(["--help"]) == 0
    assert "evaluate" in capsys.readouterr().out
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"gliclass-rerank {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shuffle"], "No such command 'shuffle'; see `gliclass-rerank --help`"),
        (["clasify"], "No such command 'clasify'. Did you mean 'classify'?; see `gliclass-rerank --help`"),
        (["rank"], "either `--query` or `--queries` must be given, got none; see `gliclass-rerank rank --help`"),
        (["rank", "--query", "a", "--queries", "b"], "either `--query` or `--queries` must be given, got both; see"),
        (["rank", "--query", "a"], "`--query` needs `--passages`, got none; see `gliclass-rerank rank --help`"),
        (["rank", "--queri", "a"], "No such option: --queri"),
        (["rank", "--query", "q", "--passages", "p.txt", "--top-k", "0"], "Invalid value for '--top-k': "),
        (["evaluate"], "Missing option '--data'; see `gliclass-rerank evaluate --help`"),
        (["examples", "add"], "Missing argument 'files'; see `gliclass-rerank examples add --help`"),
        (["average", "a", "b", "--dtype", "x"], "Invalid value for '--dtype': "),
    ],
)
def test_wrong_arguments_are_one_line_that_names_the_commands_help_and_exit_code_2(capsys, arguments, message):
    assert error_of(capsys, arguments).startswith(f"error: {message}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rank", "--query", "q", "--passages", "absent.txt"], "absent.txt: cannot be read: No such file"),
        (["rank", "--query", "q", "--passages", "p.csv"], "p.csv: the name of a file of texts must end in .jsonl or"),
        (["evaluate", "--data", "absent"], "absent: no such folder"),
        (["examples", "list", "--store", "absent.db"], "absent.db: there is no such store"),
    ],
)
def test_another_error_is_one_line_and_exit_code_1(capsys, arguments, message):
    assert error_of(capsys, arguments, code=1).startswith(f"error: {message}")


def test_an_unknown_precision_gets_all_that_there_are(passages, tiny_folders, capsys):
    command = ["rank", "--query", "chain", "--passages", passages, "--model", str(tiny_folders["bert"])]

    message = error_of(capsys, [*command, "--dtype", "int4"])

    assert all(name in message for name in ("float32", "float16", "bfloat16", "int8"))
    assert message.endswith("got 'int4'; see `gliclass-rerank rank --help`")


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help_lists_the_commands_in_sections_and_rank_first(capsys, arguments, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main(arguments) == 0
    shown = capsys.readouterr().out
    sections = [line.rstrip(":") for line in shown.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert sections == ["Options", "Use", "Measure", "Train"]
    assert shown.partition("Use:\n")[2].startswith("  rank ")
    assert "..." not in shown.partition("Use:")[2]  # nothing is cut


def test_a_group_without_a_command_prints_its_help(capsys):
    assert cli.main(["examples"]) == 0
    assert "search" in capsys.readouterr().out


def test_an_unknown_split_is_an_error(collection, capsys):
    message = error_of(capsys, ["evaluate", "--data", collection, "--split", "dev"], code=1)
    assert message.endswith("toy: no split 'dev'; it has `test`")


def test_a_run_that_could_not_be_written_is_refused_before_anything_is_ranked(collection, tmp_path, capsys):
    path = str(tmp_path / "absent" / "run.trec")
    message = error_of(capsys, ["evaluate", "--data", collection, "--split", "test", "--run-out", path])
    assert message.startswith(f"error: the folder of a run file must exist and be writable, got {path!r}; see")


def test_an_error_with_line_breaks_becomes_one_line(passages, capsys, monkeypatch):
    def refuse(*args, **kwargs):
        raise gliclass_rerank.errors.CheckpointError("two\n  lines")

    monkeypatch.setattr(gliclass_rerank, "Reranker", refuse)
    assert error_of(capsys, ["rank", "--query", "q", "--passages", passages], code=1) == "error: two lines"


def run_program(code, **options):
    return subprocess.run([sys.executable, "-c", f"import sys\n{code}"], check=False, **options)


def test_a_reader_that_stops_early_gets_no_traceback():
    read, write = os.pipe()
    os.close(read)
    code = "from gliclass_rerank.cli.app import main; sys.exit(main(['--help']))"
    finished = run_program(code, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (finished.returncode, finished.stderr) == (1, b"")


def test_help_does_not_import_the_model():
    code = "from gliclass_rerank.cli.app import main; main(['--help']); "
    code += "sys.exit(any(map(sys.modules.get, ('torch', 'transformers', 'ir_measures'))))"
    assert run_program(code, stdout=subprocess.DEVNULL).returncode == 0


def test_rank_with_the_bundled_model(tmp_path, capsys):
    path = tmp_path / "passages.jsonl"
    texts = ["Raise the saddle a little.", "Oil on the rotor makes disc brakes squeal.", "Lock it to a post."]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    query = "awful noise when I slow down"
    assert cli.main(["rank", "--query", query, "--passages", str(path), "--device", "cpu", "--json"]) == 0
    ranking = json.loads(capsys.readouterr().out)
    assert ranking["hits"][0]["index"] == 1
    assert sorted(hit["index"] for hit in ranking["hits"]) == [0, 1, 2]
    assert all(0 <= hit["score"] <= 1 for hit in ranking["hits"])
    assert ranking["truncated"] == []
    assert ranking["model"]


def test_evaluate_with_the_bundled_model(collection, capsys):
    assert cli.main(["evaluate", "--data", collection, "--split", "test", "--device", "cpu", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {"first_stage", "reranked", "queries", "passages", "passages_per_second", "model"}
    assert report["first_stage"] == {"ndcg@10": 0.5, "mrr@10": pytest.approx(1 / 3)}
    assert report["reranked"] == {"ndcg@10": 1.0, "mrr@10": 1.0}
    assert (report["queries"], report["passages"]) == (2, 6)
    assert report["passages_per_second"] > 0


def test_optimize_exports_a_model_once(capsys, tiny_folders, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    for module in (export, graph_cache):
        monkeypatch.setattr(module, "default_cache_folder", lambda: tmp_path / "graphs")
    command = ["optimize", "--model", str(tiny_folders["bert"]), "--backend", "onnx", "--dtype", "int8"]

    assert cli.main(command) == cli.main(command) == 0

    (entry,) = (tmp_path / "graphs").iterdir()
    assert sorted(path.name for path in entry.iterdir()) == ["entry.json", "passage.onnx", "query.onnx"]
    assert capsys.readouterr().out == f"exported for onnx in int8 to {tmp_path / 'graphs'}\n" * 2


def test_optimize_exports_what_goes_on_from_a_passage_cache(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    for module in (export, graph_cache):
        monkeypatch.setattr(module, "default_cache_folder", lambda: tmp_path / "graphs")
    settings = {"model": "minilm-l6-v1", "passage_cache": tmp_path / "cache"}
    gliclass_rerank.Reranker("minilm-l6-v1", device="cpu").precompute(["a chain"], settings["passage_cache"])
    command = ["optimize", "--model", settings["model"], "--passage-cache", str(settings["passage_cache"])]

    assert cli.main([*command, "--backend", "onnx"]) == 0

    monkeypatch.setattr(export, "GRAPHS", {})  # nothing could be exported now
    found = gliclass_rerank.Reranker(backend="onnx", **settings).rank("oil", ["a chain", "oil"])
    assert [hit.index for hit in found] == [1, 0]


def test_optimize_removes_old_exports_on_request(capsys, tiny_folders, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    for module in (export, graph_cache):
        monkeypatch.setattr(module, "default_cache_folder", lambda: tmp_path)
    old = tmp_path / ("0" * 32)
    old.mkdir()
    os.utime(old, (0, 0))

    assert cli.main(["optimize", "--model", str(tiny_folders["bert"]), "--backend", "onnx", "--prune-after", "30"]) == 0

    (entry,) = tmp_path.iterdir()
    assert entry != old
    assert capsys.readouterr().out.splitlines()[1] == "removed 1 that were not used for 30 days"


def test_optimize_refuses_a_backend_that_needs_no_export(capsys):
    assert cli.main(["optimize", "--backend", "torch"]) == 2
    assert capsys.readouterr().err.startswith("error: `backend` must be `onnx`, `openvino` or `auto`, got 'torch'")


def test_optimize_says_when_the_quickest_backend_needs_no_export(capsys, tiny_folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)

    assert cli.main(["optimize", "--model", str(tiny_folders["bert"]), "--backend", "auto"]) == 2
    assert "error: `backend` 'auto' is torch here, which needs no export" in capsys.readouterr().err
