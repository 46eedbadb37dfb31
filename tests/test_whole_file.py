import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from gliclass_rerank.files.atomic_write import atomic_file, atomic_folder, remove_leftovers


def test_a_file_is_replaced_when_it_is_complete(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")

    with atomic_file(path) as staging:
        staging.write_text("new")
        assert path.read_text() == "old"

    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")

    def fail_halfway():
        with atomic_file(path) as staging:
            staging.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail_halfway()

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_threads_may_write_the_same_file(tmp_path):
    path = tmp_path / "out.txt"

    def write(text):
        with atomic_file(path) as staging:
            staging.write_text(text)
            return staging

    with atomic_file(path) as outer:
        outer.write_text("outer")
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(write, "inner").result() != outer
        assert path.read_text() == "inner"

    assert path.read_text() == "outer"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_when_it_is_complete(tmp_path):
    with atomic_folder(tmp_path / "out") as staging:
        (staging / "part").write_text("all")
        assert not (tmp_path / "out").exists()

    assert (tmp_path / "out" / "part").read_text() == "all"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_error_leaves_no_folder(tmp_path):
    def fail_halfway():
        with atomic_folder(tmp_path / "out") as staging:
            (staging / "part").write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail_halfway()

    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no locks on folders")
def test_what_a_killed_process_left_is_removed_by_the_next_and_nothing_else(tmp_path):
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from gliclass_rerank.files.atomic_write import atomic_folder\n"
        "with atomic_folder(Path(sys.argv[1])) as staging:\n"
        "    (staging / 'part').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "out")], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    kept = [tmp_path / name for name in (".out-settings", ".other-abcdefgh.unfinished", ".out-abc.unfinished")]
    for folder in kept:
        folder.mkdir()

    with atomic_folder(tmp_path / "out") as first, ThreadPoolExecutor(1) as pool:
        # Another one that writes the same folder leaves this one alone.
        pool.submit(remove_leftovers, tmp_path / "out").result()
        assert first.exists()

    assert sorted(tmp_path.iterdir()) == sorted([*kept, tmp_path / "out"])
