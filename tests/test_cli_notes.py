"""Notes on stderr of loading a model."""

import logging

from gliclass_rerank.cli import app as cli


def test_loading_says_which_backend_was_taken(tiny_folders, tmp_path, capsys):
    passages = tmp_path / "passages.txt"
    passages.write_text("oil\nwax\n", encoding="utf-8")
    level = logging.getLogger("gliclass_rerank").level

    command = ["rank", "--query", "chain", "--passages", str(passages), "--device", "cpu"]
    assert cli.main([*command, "--model", str(tiny_folders["bert"])]) == 0

    (note,) = capsys.readouterr().err.splitlines()
    assert note.startswith("note: <Reranker ")
    assert "backend='torch', dtype='float32', device='cpu'>: " in note
    assert logging.getLogger("gliclass_rerank").level == level
