import dataclasses
import re
from pathlib import Path

import pytest

from gliclass_rerank.errors import ConfigError
from gliclass_rerank.learn.training import AugmentConfig, DevConfig, LossConfig, SourceConfig, StartConfig, TrainConfig

MINIMAL = """
output: out
steps: 10
sources: [{path: data/train.jsonl, kind: ranking}]
"""


def read(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return TrainConfig.read(path)


def test_a_short_file_takes_the_defaults(tmp_path):
    config = read(tmp_path, MINIMAL)
    assert config.sources[0].losses == (LossConfig(name="listwise"),)
    assert config.queries_per_step == 8
    assert config.dev == ()


def test_paths_start_at_the_folder_of_the_file(tmp_path):
    config = read(tmp_path, MINIMAL + "dev: [{path: dev, kind: classification}]\n")
    assert config.output == tmp_path / "out"
    assert config.sources[0].path == tmp_path / "data/train.jsonl"
    assert config.dev[0].path == tmp_path / "dev"


def test_a_start_folder_is_found_beside_the_file_and_a_hub_name_is_left_alone(tmp_path):
    (tmp_path / "model").mkdir()
    assert read(tmp_path, MINIMAL + "start: {model: model}\n").start.model == str(tmp_path / "model")
    assert read(tmp_path, MINIMAL + "start: {model: owner/model}\n").start.model == "owner/model"


def test_numbers_may_be_written_without_a_point(tmp_path):
    # YAML 1.1 calls 2e-5 a string
    config = read(tmp_path, MINIMAL + "encoder_learning_rate: 2e-5\nwarmup_share: 0\n")
    assert config.encoder_learning_rate == 2e-5
    assert config.warmup_share == 0.0


def test_a_config_survives_the_way_to_plain_values_and_back():
    config = TrainConfig(
        output=Path("out"),
        epochs=2.5,
        sources=(
            SourceConfig(
                path=Path("a.jsonl"),
                kind="ranking",
                augment=AugmentConfig(lower_case=0.5),
                losses=(LossConfig(name="kl", teachers=("x", "y"), temperature=0.1),),
            ),
            SourceConfig(path=Path("b"), kind="classification", shots=8, labels=("x", "y")),
        ),
        dev=(DevConfig(path=Path("c"), kind="ranking", name="c"),),
        patience=3,
    )
    assert TrainConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz: 3", "the config has unknown keys: `stepz`; near: `steps`"),
        ("sources: [{path: a, kind: ranking, los: 1}]", "`sources[0]` has unknown keys: `los`"),
        ("sources: [{path: a}]", "`sources[0]` lacks the keys `kind`"),
        (
            "sources: [{path: a, kind: rank}]",
            "`sources[0].kind` must be one of `classification`, `ranking`, `texts`, got 'rank'",
        ),
        ("sources: {path: a}", "`sources` must be a list, got {'path': 'a'}"),
        ("sources: [a]", "`sources[0]` must be a mapping of settings, got 'a'"),
        ("sources: []", "`sources` must name at least one set of training data, got none"),
        ("seed: many", "`seed` must be a whole number, got 'many'"),
        ("seed: 1.5", "`seed` must be a whole number, got 1.5"),
        ("seed: true", "`seed` must be a whole number, got True"),
        ("seed: -1", "`seed` must be at least 0, got -1"),
        ("max_example_tokens: -1", "`max_example_tokens` must be at least 0, got -1"),
        ("plot: 1", "`plot` must be true or false, got 1"),
        ("dropout: much", "`dropout` must be a number, got 'much'"),
        ("dropout: 1.5", "`dropout` must be between 0 and 1, got 1.5"),
        ("dropout: .nan", "`dropout` must be between 0 and 1, got nan"),
        ("max_gradient_norm: 0", "`max_gradient_norm` must be above 0, got 0.0"),
        ("output: 3", "`output` must be a path, got 3"),
        ("device: 3", "`device` must be a string, got 3"),
        ("epochs: 2", "give either `steps` or `epochs`, got 10 and 2.0"),
        ("patience: 2", "`patience` and `select` need a dev set to measure on, got none"),
        (
            "dev: [{path: d, kind: ranking}]\nselect: d.f1",
            "`select` must be one of d.ndcg@10, d.mrr@10, got 'd.f1'",
        ),
        (
            "dev: [{path: a/d, kind: ranking}, {path: b/d.jsonl.gz, kind: ranking}]",
            "dev sets need names of their own, got ['d'] more than once",
        ),
        (
            "sources: [{path: a, kind: ranking, losses: [{name: focal, gamma: -1}]}]",
            "`sources[0].losses[0]`: `gamma` must be at least 0, got -1.0",
        ),
        (
            "sources: [{path: a, kind: ranking, shots: 8}]",
            "`sources[0]`: `shots` has no meaning in a ranking source, got 8",
        ),
        (
            "sources: [{path: a, kind: classification, random_negatives: 2}]",
            "`sources[0]`: `random_negatives` has no meaning in a classification source, got 2",
        ),
        (
            "sources: [{path: a, kind: classification, losses: [{name: kl, teachers: [t]}]}]",
            "`sources[0]`: classification records have no teacher scores",
        ),
        (
            "sources: [{path: a, kind: texts}]",
            "`sources[0]`: a source of texts has no grades: its losses must be `relational`, with `teachers`",
        ),
        (
            "sources: [{path: a, kind: texts, losses: [{name: relational}]}]",
            "`sources[0].losses[0]`: the loss `relational` needs `teachers`, whose vectors are its target",
        ),
        (
            "sources: [{path: a, kind: ranking, losses: [{name: relational, teachers: [t]}]}]",
            "`sources[0]`: the loss `relational` is for sources of texts, got a ranking source",
        ),
        (
            "sources: [{path: a, kind: texts, prompt: x, losses: [{name: relational, teachers: [t]}]}]",
            "`sources[0]`: `prompt` has no meaning in a texts source, got 'x'",
        ),
        (
            "sources: [{path: a, kind: ranking, min_candidates: 9, max_candidates: 8}]",
            "`sources[0]`: `min_candidates` must be at most `max_candidates`, got 9 and 8",
        ),
        (
            "sources: [{path: a, kind: ranking, augment: {random_examples: 0.3}}]",
            "`sources[0].augment`: `random_examples` needs `max_examples`",
        ),
    ],
)
def test_a_wrong_key_is_refused_in_one_sentence_that_names_the_file(tmp_path, text, message):
    key = text.partition(":")[0]
    kept = [line for line in MINIMAL.splitlines() if not line.startswith(f"{key}:")]
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path / 'run.yaml'}: {message}")):
        read(tmp_path, "\n".join([*kept, text]))


def test_a_file_that_is_no_yaml_or_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=re.escape("run.yaml: not YAML: ")):
        read(tmp_path, "steps: [1")
    with pytest.raises(ConfigError, match=re.escape("run.yaml: the config must be a mapping of settings, got None")):
        read(tmp_path, "")
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        TrainConfig.read(tmp_path / "absent.yaml")


def test_the_configs_in_the_documentation_are_configs():
    yaml = pytest.importorskip("yaml")
    document = Path(__file__).parents[2] / "docs/guide/training.md"
    if not document.is_file():
        pytest.skip("the documentation is not part of the source distribution")
    blocks = re.findall(r"```yaml\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        assert TrainConfig.from_dict(yaml.safe_load(block)).sources


def test_every_key_is_explained_in_the_documentation():
    document = Path(__file__).parents[2] / "docs/guide/training.md"
    if not document.is_file():
        pytest.skip("the documentation is not part of the source distribution")
    text = document.read_text(encoding="utf-8")
    kinds = (TrainConfig, SourceConfig, LossConfig, AugmentConfig, DevConfig, StartConfig)
    names = {field.name for kind in kinds for field in dataclasses.fields(kind)}
    assert sorted(name for name in names if f"`{name}`" not in text) == []
