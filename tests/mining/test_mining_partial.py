import pytest

from gliclass_rerank.errors import InputError
from gliclass_rerank.learn.data.partial import PartialFile
from gliclass_rerank.learn.data.records import RankingRecord, read_records

SETTINGS = {"seed": 1, "depth": 9}


def record(number):
    return RankingRecord(query=f"query {number}", passages=("a",), grades=(None,))


def queries(path):
    return [found.query for found in read_records(path)]


@pytest.fixture
def target(tmp_path):
    return tmp_path / "out.jsonl"


def test_the_file_appears_when_it_is_finished_and_leaves_nothing_else(target):
    with PartialFile(target, SETTINGS) as partial:
        partial.scratch.mkdir()
        partial.append([record(1), record(2)])
        assert not target.exists()
        partial.finish()
    assert queries(target) == ["query 1", "query 2"]
    assert list(target.parent.iterdir()) == [target]


def test_a_second_run_goes_on_after_the_last_whole_line(target):
    with PartialFile(target, SETTINGS) as partial:
        partial.append([record(1), record(2)])
    with (target.parent / "out.jsonl.partial").open("a") as handle:
        handle.write('{"query": "cut o')
    with PartialFile(target, SETTINGS) as partial:
        assert partial.num_lines == 2
        assert [found.query for found in partial.records()] == ["query 1", "query 2"]
        partial.append([record(3)])
        partial.finish()
    assert queries(target) == ["query 1", "query 2", "query 3"]


def test_lines_can_be_dropped_from_the_end(target):
    with PartialFile(target, SETTINGS) as partial:
        partial.append([record(number) for number in range(5)])
        partial.keep(2)
        partial.append([record(9)])
        partial.finish()
    assert queries(target) == ["query 0", "query 1", "query 9"]


def test_other_settings_are_refused_by_name(target):
    with PartialFile(target, SETTINGS) as partial:
        partial.append([record(1)])
    with pytest.raises(InputError, match=r"had `seed` 1, now it is 2; .*or delete '.*out\.jsonl\.partial'"):
        PartialFile(target, {**SETTINGS, "seed": 2})


def test_other_settings_are_fine_while_nothing_is_written(target):
    with PartialFile(target, SETTINGS):
        pass
    with PartialFile(target, {**SETTINGS, "seed": 2}) as partial:
        partial.append([record(1)])
    with PartialFile(target, {**SETTINGS, "seed": 2}) as partial:
        assert partial.num_lines == 1


def test_a_run_without_readable_settings_is_refused(target):
    with PartialFile(target, SETTINGS) as partial:
        partial.append([record(1)])
    (target.parent / "out.jsonl.partial.json").write_text("{")
    with pytest.raises(InputError, match="settings of an unfinished run cannot be read"):
        PartialFile(target, SETTINGS)


def test_a_target_that_exists_is_refused_unless_it_is_replaced(target):
    target.write_text("precious\n")
    with pytest.raises(InputError, match="exists already"):
        PartialFile(target, SETTINGS)
    with PartialFile(target, SETTINGS, replacing=True) as partial:
        partial.append([record(1)])
        assert target.read_text() == "precious\n"
        partial.finish()
    assert queries(target) == ["query 1"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("out.json", "must end in .jsonl, got"), ("no/such/out.jsonl", "folder of the output must exist")],
)
def test_a_target_that_cannot_be_written_is_refused(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        PartialFile(tmp_path / name, SETTINGS)
