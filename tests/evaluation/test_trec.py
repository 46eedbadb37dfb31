import pytest

from gliclass_rerank.errors import DataError, InputError
from gliclass_rerank.learn.evaluation.trec import check_run_path, scored, write_run


def test_scores_fall_by_one_per_rank():
    assert list(scored(("b", "a", "c"))) == [("b", 3), ("a", 2), ("c", 1)]
    assert list(scored(())) == []


def test_a_run_file_has_six_columns(tmp_path):
    path = tmp_path / "run.trec"
    write_run(path, {"q1": ("b", "a"), "q2": ("c",), "q3": ()}, tag="mine")
    assert path.read_text() == "q1 Q0 b 1 2 mine\nq1 Q0 a 2 1 mine\nq2 Q0 c 1 1 mine\n"


def test_a_run_file_is_replaced_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "run.trec"
    path.write_text("old")
    write_run(path, {"q1": ("a",)})
    assert path.read_text() == "q1 Q0 a 1 1 gliclass-rerank\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("run", [{"q1": ("a", "b c")}, {"q 1": ("a",)}, {"q1": ("",)}])
def test_an_id_that_the_format_cannot_hold_leaves_the_old_file_alone(tmp_path, run):
    path = tmp_path / "run.trec"
    path.write_text("old")
    with pytest.raises(DataError, match=r"a TREC run cannot hold '.*': ids must be non-empty"):
        write_run(path, run)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_that_cannot_be_written_is_refused_early(tmp_path):
    with pytest.raises(InputError, match=r"the folder of a run file must exist and be writable, got '.*run.trec'"):
        check_run_path(tmp_path / "absent" / "run.trec")
    with pytest.raises(InputError, match=r"a run file cannot replace a folder"):
        check_run_path(tmp_path)
    check_run_path(tmp_path / "run.trec")
    assert list(tmp_path.iterdir()) == []
