import json

import pytest
from training_data import classification_records, ranking_records, tiny_run, write_lines

from gliclass_rerank.learn.training import DevConfig, LossConfig, SourceConfig, train
from gliclass_rerank.learn.training.curves import read_rows


@pytest.mark.slow
def test_a_minute_of_training_improves_ranking(tmp_path, tiny_folders):
    data = write_lines(tmp_path / "train.jsonl", ranking_records(400, num_passages=8))
    dev = write_lines(tmp_path / "dev.jsonl", ranking_records(60, seed=1, num_passages=8))
    config = tiny_run(
        tmp_path / "out",
        tiny_folders["bert"],
        data,
        sources=(SourceConfig(path=data, kind="ranking", max_candidates=8),),
        dev=(DevConfig(path=dev, kind="ranking"),),
        steps=150,
        queries_per_step=8,
        encoder_learning_rate=2e-3,
        head_learning_rate=2e-3,
        eval_every=50,
    )
    outcome = train(config, minutes=1)
    start = read_rows(tmp_path / "out/dev.csv")[0]["dev.ndcg@10"]
    assert outcome.progress.best_figure > start + 0.05, f"from {start} after {outcome.progress.step} steps"


@pytest.mark.slow
def test_eight_examples_a_label_teach_labels(tmp_path, tiny_folders):
    (tmp_path / "labels.json").write_text(json.dumps(["brakes", "chain", "saddle"]))
    write_lines(tmp_path / "train.jsonl", classification_records(300))
    write_lines(tmp_path / "dev.jsonl", classification_records(60, seed=1))
    source = SourceConfig(path=tmp_path, kind="classification", shots=8, losses=(LossConfig(name="listwise"),))
    config = tiny_run(
        tmp_path / "out",
        tiny_folders["modernbert"],
        tmp_path,
        sources=(source,),
        dev=(DevConfig(path=tmp_path, kind="classification", name="d"),),
        steps=None,
        epochs=40,
        queries_per_step=8,
        encoder_learning_rate=1e-3,
        head_learning_rate=1e-3,
        eval_every=20,
    )
    outcome = train(config, minutes=2)
    start = read_rows(tmp_path / "out/dev.csv")[0]["d.macro_f1"]
    assert outcome.progress.best_figure > start + 0.1, f"from {start} after {outcome.progress.step} steps"
