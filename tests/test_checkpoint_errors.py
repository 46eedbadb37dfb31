import json
import re
import socket

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from tiny_checkpoints import change_config, change_weights, write_tiny_checkpoint

from gliclass_rerank import Reranker, ZeroShotClassifier
from gliclass_rerank.checkpoint import location
from gliclass_rerank.checkpoint.loading import load_checkpoint
from gliclass_rerank.errors import CheckpointError, ConfigError

WORD_EMBEDDINGS = "model.encoder_model.embeddings.word_embeddings.weight"


@pytest.fixture
def folder(tmp_path):
    return write_tiny_checkpoint(tmp_path / "checkpoint", "bert")


def problem(folder, error=CheckpointError):
    with pytest.raises(error) as caught:
        load_checkpoint(folder)
    return str(caught.value)


def test_missing_tensors_are_named(folder):
    change_weights(folder, lambda weights: weights.pop("model.text_projector.linear_1.bias"))
    message = f"the weights in `{folder}` do not fit its config: 1 missing: `text_projector.linear_1.bias`"
    assert problem(folder) == message


def test_no_part_of_the_backbone_may_be_missing(folder):
    for name in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
        change_weights(folder, lambda weights, name=name: weights.pop(f"model.encoder_model.embeddings.{name}.weight"))
        assert f"`encoder_model.embeddings.{name}.weight`" in problem(folder)


def test_unexpected_tensors_are_named(folder):
    change_weights(folder, lambda weights: weights.update({"model.scorer.mlp.9.weight": torch.ones(3)}))
    assert problem(folder).endswith("do not fit its config: 1 unexpected: `scorer.mlp.9.weight`")


def test_misshaped_tensors_are_named_with_both_shapes(folder):
    change_weights(folder, lambda weights: weights.update({"model.text_projector.linear_1.bias": torch.ones(7)}))
    assert problem(folder).endswith("1 mis-shaped: `text_projector.linear_1.bias (7,) instead of (24,)`")


def test_all_problems_are_told_at_once_and_long_lists_are_cut(folder):
    def spoil(weights):
        for key in [key for key in weights if ".layer.0." in key]:
            weights[key.replace(".layer.0.", ".layer.9.")] = weights.pop(key)
        weights[WORD_EMBEDDINGS] = torch.ones(2, 3)

    change_weights(folder, spoil)
    assert re.search(r"16 missing: (`\S+`, ){4}`\S+` and 11 more; 16 unexpected: .*; 1 mis-shaped: ", problem(folder))


def test_an_option_without_its_weights_is_refused(folder):
    change_config(folder, use_segment_embeddings=True)
    assert "1 missing: `segment_embeddings.weight`" in problem(folder)


def test_pickled_weights_are_refused_with_the_reason(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "pytorch_model.bin is not read, because unpickling a file runs code from it" in problem(folder)


def test_a_folder_without_weights_says_which_file_is_missing(folder):
    (folder / "model.safetensors").unlink()
    assert problem(folder) == f"`{folder}` holds no safetensors weights: `model.safetensors` not found"


def test_a_missing_shard_is_named(folder):
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert problem(folder).endswith("`model-1.safetensors` not found")


def test_shards_outside_the_folder_are_never_read(folder, tmp_path):
    (folder / "model.safetensors").rename(tmp_path / "model.safetensors")
    index = {"weight_map": {"a": "../model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "`../model.safetensors` not found" in problem(folder)


@pytest.mark.parametrize("content", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 3}}'])
def test_a_spoilt_index_is_refused(folder, content):
    (folder / "model.safetensors.index.json").write_text(content)
    assert "is no index of weights" in problem(folder)


def test_a_file_that_was_not_downloaded_completely_is_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    assert "model.safetensors` is not a complete safetensors file" in problem(folder)
    path.write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "model.safetensors` is not a complete safetensors file" in problem(folder)


def test_a_folder_that_holds_something_else_is_refused(tmp_path, folder):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert problem(empty) == f"`{empty}` holds no config.json, so it is not a checkpoint"
    (empty / "config.json").write_text('{"model_type": "bert"}')
    assert problem(empty) == f"`{empty}` is not a GLiClass checkpoint: its `model_type` is 'bert'"
    (empty / "config.json").write_text("[1]")
    assert problem(empty) == f"`{empty / 'config.json'}` must hold a JSON object, got [1]"
    (empty / "config.json").write_text("{")
    assert "config.json` is not JSON" in problem(empty)


def test_a_folder_without_a_tokenizer_is_refused(folder):
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    assert "holds neither tokenizer.json nor a tokenizer_config.json" in problem(folder)


@pytest.mark.parametrize("marker", ["<<LABEL>>", "<<SEP>>", "<<EXAMPLE>>"])
def test_a_tokenizer_that_disagrees_with_the_config_is_refused(folder, marker):
    keys = {"<<LABEL>>": "class_token_index", "<<SEP>>": "text_token_index", "<<EXAMPLE>>": "example_token_index"}
    known = json.loads((folder / "config.json").read_text())[keys[marker]]
    change_config(folder, **{keys[marker]: 3})
    assert problem(folder) == f"the tokenizer gives {marker} the id {known}, the config says 3"


def test_an_example_marker_that_the_config_does_not_place_is_no_contradiction(folder):
    change_config(folder, example_token_index=-1)
    load_checkpoint(folder)


@pytest.mark.parametrize("architecture", ["encoder-decoder", "encoder-decoder-cls", "decoder-kv"])
@pytest.mark.parametrize("backbone", ["t5", "qwen3", "gemma3", "of_next_year"])
def test_other_architectures_are_refused_by_name(folder, architecture, backbone):
    change_config(folder, architecture_type=architecture, encoder_config={"model_type": backbone})
    known = "`bi-encoder`, `bi-encoder-fused`, `uni-encoder`"
    assert problem(folder, ConfigError) == f"`architecture_type` must be one of {known}, got '{architecture}'"


@pytest.mark.parametrize("backbone", ["llama", "mistral", "gemma", "qwen2"])
def test_decoder_backbones_are_refused_by_name(folder, backbone):
    change_config(folder, encoder_config={"model_type": backbone})
    assert f"the backbone '{backbone}' is a decoder that GLiClass runs bidirectionally" in problem(folder, ConfigError)


@pytest.mark.parametrize("backbone", ["of_next_year", "blip_text_model", "encoder-decoder", "gpt2", "detr"])
def test_supported_backbones_that_are_not_on_the_list_are_refused_by_name(folder, backbone):
    change_config(folder, encoder_config={"model_type": backbone, "auto_map": {"AutoModel": "code.Model"}})
    message = problem(folder, ConfigError)
    assert message.startswith(f"the backbone '{backbone}' is not one of `bert`, `camembert`, `deberta-v2`, ")
    assert message.endswith(", and code of a checkpoint's own is never run")


def test_an_unknown_scorer_error_lists_the_known_ones(folder):
    change_config(folder, scorer_type="cosine")
    known = "`cross-attn`, `hopfield`, `mlp`, `simple`, `weighted-dot`"
    assert problem(folder, ConfigError) == f"`scorer_type` must be one of {known}, got 'cosine'"


def test_heads_that_cannot_run_are_refused_when_loaded(folder):
    change_config(folder, scorer_type="mlp", hidden_size=7)
    assert "needs a `hidden_size` equal to the encoder's width 24, got 7" in problem(folder, ConfigError)
    change_config(folder, scorer_type="cross-attn", pooling_strategy="pass", hidden_size=24)
    assert "takes no calibrator" in problem(folder, ConfigError)
    change_config(folder, use_calibrator=False, scorer_num_heads=5)
    assert "`scorer_num_heads` must divide the encoder's width 24, got 5" in problem(folder, ConfigError)


def test_a_local_folder_is_loaded_without_any_socket(folder, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a local folder needs no network")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    assert len(ZeroShotClassifier(str(folder), device="cpu").logits("my chain slips", ["oil"])) == 1


def test_a_hub_name_is_fetched_at_its_revision_without_code_or_pickles(folder, monkeypatch):
    asked = {}

    def fetch(name, *, revision, allow_patterns):
        asked.update(name=name, revision=revision, patterns=set(allow_patterns))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert Reranker("owner/model", revision="0123abc", device="cpu").name == "owner/model"
    assert (asked["name"], asked["revision"]) == ("owner/model", "0123abc")
    assert {"config.json", "*.safetensors", "model.safetensors.index.json"} < asked["patterns"]
    assert not any(re.search(r"^\*$|\.(py|bin|pt|pkl)$", pattern) for pattern in asked["patterns"])


@pytest.mark.parametrize(
    "failure", [LocalEntryNotFoundError("no network\nmore"), OSError("disk full"), ConnectionError("no route")]
)
def test_a_download_that_fails_names_the_model_and_the_revision(monkeypatch, failure):
    def fetch(*args, **kwargs):
        raise failure

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    with pytest.raises(
        CheckpointError, match=r"`owner/model` .* could not be had from the hub \(revision v2\): "
    ) as info:
        load_checkpoint("owner/model", revision="v2")
    assert "\n" not in str(info.value)
    assert info.value.__cause__ is failure


@pytest.mark.parametrize("name", ["./checkpoints/mine", "a/b/c", "with space", "", "~/nowhere-at-all"])
def test_a_path_that_does_not_exist_is_not_looked_for_on_the_hub(monkeypatch, name):
    monkeypatch.setattr("huggingface_hub.snapshot_download", pytest.fail)
    with pytest.raises(CheckpointError, match="there is no folder"):
        load_checkpoint(name)


def test_a_name_that_is_nearly_a_bundled_one_offers_the_bundled_ones(monkeypatch):
    def unreachable(*_, **__):
        raise CheckpointError("`minilm` is no local folder and could not be had from the hub")

    monkeypatch.setattr(location, "fetched", unreachable)
    for load, near in ((Reranker, "minilm"), (ZeroShotClassifier, "minilm-l6")):
        with pytest.raises(
            CheckpointError, match=r"did you mean `minilm-l6-v1`\? Bundled are `minilm-cascade-v1`, `mini"
        ):
            load(near)
    with pytest.raises(CheckpointError) as caught:
        Reranker("owner/model")
    assert "Bundled" not in str(caught.value)


def test_a_classifier_of_a_cascade_names_a_model_that_classifies():
    with pytest.raises(CheckpointError, match="a cascade ranks only, take a single model such as `minilm-l6-v1`"):
        ZeroShotClassifier("minilm-cascade-v1")
