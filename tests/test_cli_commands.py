"""Commands of the command line on tiny checkpoints: many queries, standard input, labels, stores, what is bundled."""

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest
from test_cli import OverlapReranker, error_of

import gliclass_rerank
from gliclass_rerank.cli import app as cli
from gliclass_rerank.cli.output import scoring_progress
from gliclass_rerank.learn.evaluation.passages import with_fields

PASSAGES = [
    {"id": "a", "text": "brakes squeal", "url": "/a", "score": 7},
    {"id": "b", "title": "Chain", "text": "oil", "metadata": {"page": 3}},
]


@pytest.fixture
def fake_reranker(monkeypatch):
    monkeypatch.setattr(gliclass_rerank, "Reranker", OverlapReranker)
    return OverlapReranker


@pytest.fixture
def stdin(monkeypatch):
    def put(text):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    return put


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def written(path, text):
    path.write_text(text)
    return str(path)


def printed(capsys):
    return list(map(json.loads, capsys.readouterr().out.splitlines()))


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_passages_come_from_standard_input_with_all_their_fields(fake_reranker, stdin, capsys, name):
    stdin(jsonl(PASSAGES))
    assert cli.main(["rank", "--query", "Chain oil", "--passages", name, "--json"]) == 0
    (answer,) = printed(capsys)
    common = {"logit": 2.0, "score": 0.2, "rank": 1, "index": 1, "line": 2}
    assert answer["hits"][0] == {**common, **PASSAGES[1], "text": "Chain oil"}
    assert answer["hits"][1] == {**common, "rank": 2, "index": 0, "logit": 0.0, "score": 0.0, "line": 1} | {
        "id": "a",
        "text": "brakes squeal",
        "url": "/a",
        "input_score": 7,
    }


def test_no_field_of_a_record_takes_the_place_of_a_result():
    record = {"rank": 9, "id": "a", "text": "oil"}
    assert with_fields({"rank": 1, "text": "Chain oil"}, record) == {
        "rank": 1,
        "text": "Chain oil",
        "input_rank": 9,
        "id": "a",
    }


def test_many_queries_are_ranked_for_one_file_of_passages(fake_reranker, tmp_path, stdin, capsys):
    passages = written(tmp_path / "passages.jsonl", jsonl(PASSAGES))
    stdin(jsonl([{"query": "brakes", "id": "q1"}, {"text": "oil", "model": "mine"}]))
    assert cli.main(["rank", "--queries", "-", "--passages", passages, "--top-k", "1"]) == 0
    first, second = printed(capsys)
    assert (first["query"], first["id"], [hit["id"] for hit in first["hits"]]) == ("brakes", "q1", ["a"])
    assert (second["query"], second["model"], second["input_model"]) == ("oil", "overlap", "mine")
    assert "text" not in second
    assert [hit["id"] for hit in second["hits"]] == ["b"]


def test_queries_may_bring_passages_of_their_own(fake_reranker, tmp_path, capsys):
    rows = [{"query": "oil", "passages": ["brakes", {"id": 7, "text": "oil"}]}, {"query": "oil", "passages": []}]
    assert cli.main(["rank", "--queries", written(tmp_path / "q.jsonl", jsonl(rows))]) == 0
    first, second = printed(capsys)
    assert [(hit["text"], hit.get("id")) for hit in first["hits"]] == [("oil", 7), ("brakes", None)]
    assert second["hits"] == []
    assert "passages" not in first


def test_queries_may_be_lines_of_text(fake_reranker, tmp_path, capsys):
    passages = written(tmp_path / "p.txt", "oil\nbrakes\n")
    assert cli.main(["rank", "--queries", written(tmp_path / "q.txt", "brakes\noil\n"), "--passages", passages]) == 0
    assert [each["hits"][0]["text"] for each in printed(capsys)] == ["brakes", "oil"]


def test_a_query_that_cannot_be_ranked_stops_no_other(tiny_folders, tmp_path, capsys):
    rows = [
        {"id": 1, "query": " ", "passages": ["oil"]},
        {"id": 2, "query": "oil"},
        {"id": 3, "query": "oil", "passages": "oil"},
        {"id": 4, "query": "oil", "passages": ["oil", 7]},
        {"id": 5, "query": "oil", "passages": [{"title": "oil"}]},
        {"id": 6, "query": "oil " * 300, "passages": ["oil"]},
        {"id": 7, "query": "oil", "passages": ["chain"]},
    ]
    queries = written(tmp_path / "q.jsonl", jsonl(rows))
    options = ["--model", str(tiny_folders["bert"]), "--device", "cpu", "--backend", "torch", "--long-query", "error"]
    assert cli.main(["rank", "--queries", queries, *options]) == 1
    captured = capsys.readouterr()
    answers = list(map(json.loads, captured.out.splitlines()))
    assert [answer["id"] for answer in answers] == [1, 2, 3, 4, 5, 6, 7]
    assert len(answers[-1]["hits"]) == 1
    errors = [answer["error"] for answer in answers[:-1]]
    assert "must not be blank" in errors[0]
    assert errors[1] == "the query of line 2 has no `passages`, and `--passages` is not given"
    assert errors[2] == "`passages` of line 3 must be a list, got 'oil'"
    assert errors[3] == "`passages[1]` of line 4 must be a string or an object, got 7"
    assert errors[4] == "`passages[0]` of line 5: `text` must be a string, got None"
    assert captured.err == "note: 6 of 7 queries could not be ranked; their lines say why\n"


def test_standard_input_serves_one_option(stdin, fake_reranker, capsys):
    stdin("oil\n")
    message = error_of(capsys, ["rank", "--queries", "-", "--passages", "-"], code=1)
    assert message == "error: -: standard input can be read once, so only one option may name it"


def test_examples_of_a_store_are_shown_and_change_a_ranking(tiny_folders, tmp_path, capsys):
    store, passages = str(tmp_path / "store.db"), written(tmp_path / "p.txt", "oil the chain\nclean rim\n")
    example = {"text": "chain slip", "true_labels": ["oil the chain"], "false_labels": ["clean rim"]}
    assert cli.main(["examples", "add", "--store", store, written(tmp_path / "e.jsonl", jsonl([example]))]) == 0
    capsys.readouterr()
    command = ["rank", "--query", "the chain slips", "--passages", passages, "--json", "--device", "cpu"]
    command += ["--model", str(tiny_folders["bert"])]
    assert cli.main(command) == cli.main([*command, "--example-store", store]) == 0
    assert cli.main([*command, "--example-store", store, "--where", "tenant=x"]) == 0
    plain, shown, other_tenant = printed(capsys)
    assert plain["hits"] != shown["hits"]
    assert plain["hits"] == other_tenant["hits"]


@pytest.fixture
def store(tmp_path, capsys):
    rows = [
        {"id": "a", "text": "chain slip", "true_labels": ["oil"], "metadata": {"tenant": "x", "level": 3}},
        {"text": "brake squeal", "true_labels": ["rust"], "false_labels": ["oil"]},
    ]
    path = str(tmp_path / "store.db")
    assert cli.main(["examples", "add", "--store", path, written(tmp_path / "e.jsonl", jsonl(rows))]) == 0
    assert capsys.readouterr().out == "read      2\nadded     2\nin store  2\n"
    return path


def test_adding_examples_again_changes_nothing_and_new_judgements_join_old_ones(store, tmp_path, capsys, stdin):
    assert cli.main(["examples", "add", "--store", store, str(tmp_path / "e.jsonl")]) == 0
    assert capsys.readouterr().out == "read      2\nadded     0\nin store  2\n"
    stdin(jsonl([{"text": "Brake  squeal", "true_labels": ["oil"]}]))
    assert cli.main(["examples", "add", "--store", store, "-"]) == 0
    capsys.readouterr()
    assert cli.main(["examples", "list", "--store", store, "--json"]) == 0
    first, second = printed(capsys)
    assert first == {"id": "a", "text": "chain slip", "true_labels": ["oil"], "false_labels": []} | {
        "metadata": {"tenant": "x", "level": 3}
    }
    assert set(second["true_labels"]) == {"oil", "rust"}


def test_examples_are_listed_searched_and_deleted(store, capsys):
    assert cli.main(["examples", "list", "--store", store, "--limit", "1"]) == 0
    assert capsys.readouterr().out == "a  chain slip\n"
    assert cli.main(["examples", "list", "--store", store, "--where", "level=3", "--where", "tenant=x"]) == 0
    assert capsys.readouterr().out == "a  chain slip\n"
    assert cli.main(["examples", "search", "--store", store, "my brakes squeal", "--top-k", "1", "--json"]) == 0
    (found,) = printed(capsys)
    assert found["text"] == "brake squeal"
    assert found["similarity"] > 0.5
    assert cli.main(["examples", "search", "--store", store, "brake squeal", "--where", "tenant=x"]) == 0
    assert "brake" not in capsys.readouterr().out
    assert cli.main(["examples", "delete", "--store", store, "a"]) == 0
    assert capsys.readouterr().out == "deleted   1\nin store  1\n"


def test_wrong_examples_and_ids_change_nothing(store, tmp_path, capsys):
    bad = written(tmp_path / "bad.jsonl", jsonl([{"text": "a", "true_labels": ["b"]}, {"text": 7}]))
    message = error_of(capsys, ["examples", "add", "--store", store, bad], code=1)
    assert message.endswith("bad.jsonl:2: an example's `text` must be a string, got 7")
    message = error_of(capsys, ["examples", "delete", "--store", store, "a", "nobody"])
    assert "the store has no example with the id 'nobody'; nothing was deleted" in message
    message = error_of(capsys, ["examples", "list", "--store", store, "--where", "tenant"])
    assert message.startswith("error: `--where` must be KEY=VALUE, got 'tenant'")
    assert cli.main(["examples", "list", "--store", store]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.fixture
def classify(tiny_folders):
    def run(*arguments):
        return cli.main(["classify", "--model", str(tiny_folders["bert"]), "--backend", "torch", *arguments])

    return run


def test_texts_are_classified_line_by_line(classify, tmp_path, capsys):
    texts = written(tmp_path / "t.jsonl", jsonl([{"id": 7, "text": "chain"}, {"text": "rim", "labels": "mine"}]))
    assert classify("--texts", texts, "--label", "oil", "--label", "wax", "--threshold", "0", "--json") == 0
    first, second = printed(capsys)
    assert [label["label"] for label in first["labels"]] == ["oil", "wax"]
    assert first | {"labels": []} == {"id": 7, "text": "chain", "line": 1, "labels": [], "truncated": None}
    assert second["input_labels"] == "mine"
    assert classify("--text", "chain", "--label", "oil", "--label", "wax", "--one") == 0
    line = capsys.readouterr().out
    assert line.split()[1] in {"oil", "wax"}
    assert line.rstrip().endswith("chain")


def test_labels_come_from_a_file_or_a_tree(classify, tmp_path, stdin, capsys):
    tree = written(tmp_path / "labels.json", '{"care": ["oil", "wax"]}')
    lines = written(tmp_path / "labels.txt", "care.oil\ncare.wax\n")
    meanings = written(tmp_path / "d.json", '{"care.oil": "wet lube"}')
    common = ["--text", "chain", "--threshold", "0", "--json"]
    assert classify(*common, "--labels", tree) == classify(*common, "--labels", lines) == 0
    stdin("care.oil\ncare.wax\n")
    assert classify(*common, "--labels", "-") == classify(*common, "--labels", tree, "--descriptions", meanings) == 0
    from_tree, from_lines, from_stdin, with_meanings = printed(capsys)
    assert from_tree == from_lines == from_stdin != with_meanings


def test_a_long_text_is_cut_with_a_note_or_read_whole(classify, tmp_path, capsys):
    texts = written(tmp_path / "t.txt", "oil\n" + "chain " * 400 + "\n")
    assert classify("--texts", texts, "--label", "oil") == 0
    assert capsys.readouterr().err == "note: cut to fit the model's window: line 2\n"
    assert classify("--texts", texts, "--label", "oil", "--long-texts", "max") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--label", "a"], 2, "either `--texts` or `--text` must be given, got none"),
        (["--text", "a"], 2, "either `--label` or `--labels` must be given, got none"),
        (["--text", "a", "--label", "b", "--labels", "c"], 2, "either `--label` or `--labels` must be given, got both"),
        (["--text", "a", "--labels", "c.csv"], 1, "c.csv: the name of a file of labels must end in .txt or .json"),
        (["--text", "a", "--label", "b", "--long-texts", "c"], 2, "Invalid value for '--long-texts'"),
    ],
)
def test_wrong_arguments_of_classify_are_refused(capsys, arguments, code, message):
    assert error_of(capsys, ["classify", *arguments], code).startswith(f"error: {message}")


def test_the_bundled_models_are_listed_with_size_quality_and_speed(capsys):
    assert cli.main(["models"]) == 0
    table = capsys.readouterr().out
    assert cli.main(["models", "--json"]) == 0
    first, *others = printed(capsys)
    assert first["is_default"]
    assert not any(other["is_default"] for other in others)
    for row in (first, *others):
        assert row["model"] in table
        assert gliclass_rerank.checkpoint.location.is_bundled(row["model"])
        assert row["bytes"] > 1 << 20
        assert all(0 < value <= 1 for value in row["ndcg@10"].values())
        assert all(rate > 1 for rate in row["passages_per_second"].values())
        assert row["ndcg@10"]


def test_evaluate_reads_a_beir_folder_and_finds_candidates_itself(fake_reranker, tmp_path, capsys):
    (tmp_path / "qrels").mkdir()
    written(
        tmp_path / "corpus.jsonl",
        jsonl(
            {"_id": f"d{n}", "text": text, "title": ""}
            for n, text in enumerate(["brakes squeal in the rain", "the chain slips", "brakes and pads"])
        ),
    )
    written(tmp_path / "queries.jsonl", jsonl([{"_id": "1", "text": "brakes squeal", "metadata": {}}]))
    written(tmp_path / "qrels" / "test.tsv", "query-id\tcorpus-id\tscore\n1\td0\t1\n")
    assert cli.main(["evaluate", "--data", str(tmp_path), "--json"]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert (report["queries"], report["passages"]) == (1, 2)
    assert report["reranked"] == {"ndcg@10": 1.0, "mrr@10": 1.0}
    assert captured.err == "note: the collection lists no candidates; BM25 found up to 100 for each query\n"


@pytest.mark.parametrize("plan", ["joint", "shared_query"])
def test_progress_counts_the_passages_that_were_scored(tiny_folders, plan, monkeypatch):
    counts = []
    settings = {"plan": plan, "batch_tokens": 64, "window_tokens": 40}
    reranker = gliclass_rerank.Reranker(tiny_folders["bert"], device="cpu", **settings)
    passages = [f"oil {number}" for number in range(50)]
    monkeypatch.setattr("tqdm.tqdm.update", lambda bar, count: counts.append(count))
    with scoring_progress(len(passages), "passages"):
        reranker.rank("chain", passages)
    assert len(counts) > 3
    assert 25 < sum(counts) < 50  # of the last batch nobody hears


PROGRAM = [sys.executable, "-c", "import sys; from gliclass_rerank.cli import main; sys.exit(main())"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there are no terminals of this kind")
def test_a_terminal_shows_how_far_it_is(tiny_folders, tmp_path):
    import fcntl
    import pty
    import struct
    import termios

    words = "brake pad wheel " * 15  # more than a second on any machine
    passages = written(tmp_path / "p.txt", "".join(f"oil chain {number} {words}\n" for number in range(2_000)))
    command = [*PROGRAM, "rank", "--query", "oil", "--passages", passages, "--top-k", "1", "--backend", "torch"]
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command += ["--model", str(tiny_folders["bert"])]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, check=True)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # the other end is closed
        while part := os.read(ours, 1 << 16):
            shown += part
    os.close(ours)
    assert len(done.stdout.splitlines()) == 2
    assert b"passages/s]" in shown


@pytest.mark.slow
def test_a_reader_of_many_answers_may_stop_early(tiny_folders, tmp_path):
    rows = [{"query": "oil", "passages": ["chain", "rim"]}] * 2000
    queries = written(tmp_path / "q.jsonl", jsonl(rows))
    command = [*PROGRAM, "rank", "--queries", queries, "--model", str(tiny_folders["bert"]), "--backend", "torch"]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    line = program.stdout.readline()
    program.stdout.close()
    assert json.loads(line)["query"] == "oil"
    assert program.stderr.read() == b""
    assert program.wait() == 1
    program.stderr.close()


def test_answers_come_while_queries_are_still_being_written_and_ctrl_c_ends_it_in_silence(tiny_folders):
    command = [*PROGRAM, "rank", "--queries", "-", "--model", str(tiny_folders["bert"]), "--backend", "torch"]
    program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for query in ("oil", "rim"):
        program.stdin.write(json.dumps({"query": query, "passages": ["chain", "rim"]}).encode() + b"\n")
        program.stdin.flush()
        assert json.loads(program.stdout.readline())["query"] == query
    program.send_signal(signal.SIGINT)
    assert program.communicate() == (b"", b"")
    assert program.returncode == 130
