from __future__ import annotations

import pytest
from training_data import ranking_records, write_lines


@pytest.fixture(scope="session")
def ranking_file(tmp_path_factory):
    return write_lines(tmp_path_factory.mktemp("data") / "ranking.jsonl", ranking_records(17))


@pytest.fixture(scope="session")
def dev_file(tmp_path_factory):
    return write_lines(tmp_path_factory.mktemp("data") / "dev.jsonl", ranking_records(7, seed=1))
