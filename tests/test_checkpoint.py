import json
import logging
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import encoder_config
from tiny import tiny_tokenizer as tiny_word_level
from tiny_checkpoints import (
    change_config,
    change_weights,
    tiny_bi_encoder,
    tiny_checkpoint,
    tiny_tokenizer,
    write_tiny_checkpoint,
)

from gliclass_rerank import Reranker, Truncation, ZeroShotClassifier
from gliclass_rerank.checkpoint.integer_weights import from_integers, to_integers
from gliclass_rerank.checkpoint.loading import load_checkpoint, save_checkpoint
from gliclass_rerank.errors import CheckpointError, ConfigError

TEXT, LABELS = "my chain slips on the hill", ["oil the chain", "seat", "brake squeal"]


def logits(folder):
    return ZeroShotClassifier(folder, device="cpu").logits(TEXT, LABELS)


def tiny_t5():
    """Its embedding table has two names; files hold it once."""
    vocab_size = tiny_tokenizer().get_vocab_size()
    encoder = {**encoder_config("t5", tiny_word_level()), "vocab_size": vocab_size}
    return tiny_checkpoint("bert", encoder_config=encoder, hidden_size=32, attention_plan="joint")


CHECKPOINTS = {
    "bert with a calibrator": lambda: tiny_checkpoint("bert"),
    "modernbert with segments": lambda: tiny_checkpoint("modernbert"),
    "deberta with fused layers": lambda: tiny_checkpoint("deberta-v2"),
    "t5 with tied weights": tiny_t5,
    "bi-encoder": tiny_bi_encoder,
    "bi-encoder-fused": lambda: tiny_bi_encoder("bi-encoder-fused"),
}


@pytest.fixture
def folder(tmp_path):
    return write_tiny_checkpoint(tmp_path / "checkpoint", "bert")


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_what_is_saved_is_loaded_unchanged(tmp_path, kind):
    checkpoint = CHECKPOINTS[kind]()
    save_checkpoint(checkpoint, tmp_path / "once")
    loaded = load_checkpoint(tmp_path / "once")
    save_checkpoint(loaded, tmp_path / "twice")

    before, after = checkpoint.model.state_dict(), loaded.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert loaded.config.to_dict() == checkpoint.config.to_dict()
    assert loaded.layout.tokenizer.source == checkpoint.layout.tokenizer.source
    assert (loaded.label_tokenizer is None) == (checkpoint.label_tokenizer is None)
    assert logits(tmp_path / "once") == logits(tmp_path / "twice")
    for file in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "once" / file).read_bytes() == (tmp_path / "twice" / file).read_bytes()


@pytest.mark.parametrize("kind", [Reranker, ZeroShotClassifier])
def test_a_bi_encoder_which_never_reads_examples_is_refused_a_store_of_them(tmp_path, kind):
    save_checkpoint(tiny_bi_encoder(), tmp_path / "checkpoint")

    with pytest.raises(ConfigError, match="`example_store` has no place beside the architecture 'bi-encoder'"):
        kind(tmp_path / "checkpoint", device="cpu", example_store=tmp_path / "judged.db")


def test_tied_weights_stay_one_table(tmp_path):
    save_checkpoint(tiny_t5(), tmp_path / "t5")
    encoder = load_checkpoint(tmp_path / "t5").model.encoder_model
    assert encoder.shared.weight.data_ptr() == encoder.encoder.embed_tokens.weight.data_ptr()


def test_either_name_of_a_tied_table_is_enough(tmp_path):
    save_checkpoint(tiny_t5(), tmp_path / "t5")
    expected = logits(tmp_path / "t5")
    names = ("model.encoder_model.shared.weight", "model.encoder_model.encoder.embed_tokens.weight")

    def rename(weights):
        (stored,) = set(names) & weights.keys()
        (other,) = set(names) - {stored}
        weights[other] = weights.pop(stored)

    change_weights(tmp_path / "t5", rename)
    assert logits(tmp_path / "t5") == expected


def test_half_precision_is_cast_up_when_loaded(tmp_path):
    checkpoint = tiny_checkpoint("bert")
    save_checkpoint(checkpoint, tmp_path / "half", weights_dtype=torch.float16)
    assert {tensor.dtype for tensor in load_file(tmp_path / "half" / "model.safetensors").values()} == {torch.float16}

    loaded = load_checkpoint(tmp_path / "half").model.state_dict()
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32}
    original = checkpoint.model.state_dict()
    assert all(torch.equal(loaded[key], original[key].half().float()) for key in original)


def test_integers_take_a_quarter_of_the_room_and_move_weights_by_half_a_step(tmp_path):
    checkpoint = tiny_checkpoint("bert")
    save_checkpoint(checkpoint, tmp_path / "int8", weights_dtype=torch.int8)
    stored = load_file(tmp_path / "int8" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.int8, torch.float16}

    loaded, original = load_checkpoint(tmp_path / "int8").model.state_dict(), checkpoint.model.state_dict()
    assert loaded.keys() == original.keys()
    for name, weight in original.items():
        assert loaded[name].dtype == torch.float32
        if weight.ndim == 2:
            step = weight.abs().amax(dim=1, keepdim=True) / 127
            # Scales are float16: half a step, and a little at the ends of the range.
            assert ((loaded[name] - weight).abs() <= step * 0.57).all()
            assert not torch.equal(loaded[name], weight)


def test_each_group_of_a_row_has_a_scale():
    matrix = torch.cat([torch.full((2, 64), 0.001), torch.full((2, 64), 1.0), torch.zeros(2, 64)], dim=1)
    packed = to_integers({"weight": matrix})

    assert packed["weight.scales"].shape == (2, 3)
    assert torch.allclose(from_integers(packed)["weight"], matrix, rtol=1e-3)


def test_integers_without_their_scales_are_refused(tmp_path):
    save_checkpoint(tiny_checkpoint("bert"), tmp_path / "int8", weights_dtype=torch.int8)
    change_weights(tmp_path / "int8", lambda weights: weights.pop("model.text_projector.linear_1.weight.scales"))

    with pytest.raises(CheckpointError, match=r"integers in 'model\.text_projector\.linear_1\.weight' without a scale"):
        load_checkpoint(tmp_path / "int8")


def test_a_dtype_in_the_config_decides_nothing(folder):
    encoder = json.loads((folder / "config.json").read_text())["encoder_config"]
    change_config(folder, dtype="float16", encoder_config={**encoder, "dtype": "bfloat16", "torch_dtype": "float16"})
    assert {tensor.dtype for tensor in load_checkpoint(folder).model.state_dict().values()} == {torch.float32}


def test_shards_are_put_together(folder):
    expected = logits(folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for number in range(3):
        file = f"model-{number + 1:05}-of-00003.safetensors"
        shard = {key: weights[key] for key in sorted(weights)[number::3]}
        save_file(shard, folder / file)
        weight_map |= dict.fromkeys(shard, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert logits(folder) == expected


def test_unknown_config_keys_are_ignored_and_told_at_debug_level_only(folder, caplog):
    expected = logits(folder)
    change_config(folder, brand_new_option=7, shuffle_labels=True)
    with caplog.at_level(logging.INFO, logger="gliclass_rerank"):
        assert logits(folder) == expected
    assert "brand_new_option" not in caplog.text
    caplog.clear()
    with caplog.at_level(logging.DEBUG, logger="gliclass_rerank"):
        load_checkpoint(folder)
    assert [record.getMessage() for record in caplog.records] == ["config keys without effect here: `brand_new_option`"]


def test_a_stray_label_model_of_a_uni_encoder_is_ignored(folder):
    expected = logits(folder)
    change_config(folder, label_model_name="BAAI/bge-small-en-v1.5", label_model_config={"model_type": "llama"})
    assert logits(folder) == expected


def test_missing_config_keys_mean_what_upstream_means(folder):
    values = json.loads((folder / "config.json").read_text())
    needed = {"model_type", "encoder_config", "class_token_index", "text_token_index", "example_token_index"}
    (folder / "config.json").write_text(json.dumps({key: values[key] for key in needed}))
    change_weights(folder, lambda w: [w.pop(key) for key in list(w) if key.startswith("calibrator.")])
    config = load_checkpoint(folder).config
    assert (config.pooling_strategy, config.scorer_type, config.class_token_pooling) == ("first", "simple", "first")
    assert (config.prompt_first, config.embed_class_token, config.attention_plan) == (False, True, "joint")
    assert (config.hidden_size, config.vocab_size) == (24, tiny_tokenizer().get_vocab_size())


def test_modules_that_nothing_reads_may_be_there_or_not(folder):
    expected = logits(folder)
    pooler = "model.encoder_model.pooler.dense.weight"

    def strip(weights):
        for key in [key for key in weights if ".pooler." in key]:
            del weights[key]

    change_weights(folder, strip)
    assert logits(folder) == expected
    change_weights(folder, lambda weights: weights.update({pooler: torch.ones(24, 24)}))
    change_weights(folder, lambda w: w.update({"model.encoder_model.embeddings.position_ids": torch.arange(211)[None]}))
    assert logits(folder) == expected


def test_a_folder_that_exists_is_not_overwritten(folder):
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match="exists already; checkpoints are never"):
        save_checkpoint(tiny_checkpoint("bert"), folder)
    assert (folder / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    "step", ["checkpoint.loading.save_file", "checkpoint.loading._write_tokenizer", "files.atomic_write.os.replace"]
)
def test_a_folder_never_appears_half_written(tmp_path, monkeypatch, step):
    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(f"gliclass_rerank.{step}", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(tiny_checkpoint("bert"), tmp_path / "deep" / "checkpoint")
    assert list((tmp_path / "deep").iterdir()) == []


def test_saving_makes_parent_folders_and_a_folder_others_can_read(tmp_path):
    save_checkpoint(tiny_checkpoint("bert"), tmp_path / "a" / "b" / "checkpoint")
    assert (tmp_path / "a" / "b" / "checkpoint").stat().st_mode & 0o777 == 0o755
    shutil.rmtree(tmp_path / "a")


def test_a_checkpoint_can_limit_passages_and_a_window_overrides_it(tmp_path):
    folder = write_tiny_checkpoint(tmp_path / "bert", "bert")
    change_config(folder, default_passage_tokens=31)

    own, longer = (
        Reranker(folder, device="cpu", plan="shared_query", max_window_tokens=window, long_passages="cut")
        for window in (None, 64)
    )

    assert own.rank("oil " * 40, ["wax " * 40]).truncated == (Truncation(0, num_tokens=40, num_lost=11),)
    assert not longer.rank("oil", ["wax " * 40]).truncated


@pytest.mark.parametrize("value", [0, -1, 2.5, "31", True])
def test_a_broken_limit_is_refused_by_name(tmp_path, value):
    folder = write_tiny_checkpoint(tmp_path / "bert", "bert")
    change_config(folder, default_passage_tokens=value)

    with pytest.raises(ConfigError, match="`default_passage_tokens` must be a whole number above 0, got"):
        load_checkpoint(folder)
