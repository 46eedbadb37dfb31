import json

import pytest
import torch
from safetensors.torch import load_file
from tiny_checkpoints import change_weights, write_tiny_checkpoint

from gliclass_rerank import Reranker
from gliclass_rerank.errors import CheckpointError, ConfigError
from gliclass_rerank.learn.training import average, interpolate


@pytest.fixture
def three(tmp_path):
    """Checkpoints whose weights are 1, 2 and 4 times those of the first."""
    folders = [write_tiny_checkpoint(tmp_path / name, "bert") for name in ("one", "two", "four")]
    for folder, factor in zip(folders[1:], (2, 4), strict=True):
        change_weights(folder, lambda weights, factor=factor: [t.mul_(factor) for t in weights.values()])
    return folders


def factor_of(folder, base):
    """What all weights of a checkpoint are multiples of."""
    weights, known = load_file(folder / "model.safetensors"), load_file(base / "model.safetensors")
    assert weights.keys() == known.keys()
    (factor,) = {round((weights[key].double().sum() / known[key].double().sum()).item(), 4) for key in known}
    for key in known:
        torch.testing.assert_close(weights[key], (known[key] * factor).to(weights[key].dtype), rtol=1e-3, atol=1e-5)
    return factor


def test_an_average_weighs_all_the_same(three, tmp_path):
    average(three, tmp_path / "mean")
    assert factor_of(tmp_path / "mean", three[0]) == pytest.approx(7 / 3, abs=1e-3)
    assert Reranker(tmp_path / "mean", device="cpu").rank("bell", ["chain", "oil"])


def test_weights_need_not_add_up_to_one(three, tmp_path):
    average(three, tmp_path / "mean", weights=[0, 3, 1])
    assert factor_of(tmp_path / "mean", three[0]) == 2.5


def test_interpolation_goes_from_the_second_to_the_first(three, tmp_path):
    interpolate(three[2], three[0], tmp_path / "quarter", share=0.25)
    assert factor_of(tmp_path / "quarter", three[0]) == 1.75


def test_averaging_a_checkpoint_with_itself_changes_no_bit(three, tmp_path):
    average([three[0]] * 3, tmp_path / "same")
    weights, known = (load_file(folder / "model.safetensors") for folder in (tmp_path / "same", three[0]))
    assert all(torch.equal(weights[key], known[key]) for key in known)


def test_the_file_can_be_written_in_half_precision(three, tmp_path):
    average(three[:2], tmp_path / "half", weights_dtype=torch.float16)
    assert {tensor.dtype for tensor in load_file(tmp_path / "half" / "model.safetensors").values()} == {torch.float16}


def test_notes_in_a_backbones_config_are_no_difference(three, tmp_path):
    config = json.loads((three[0] / "config.json").read_text())
    config["encoder_config"] |= {"architectures": ["BertModel"], "_name_or_path": "somebody/bert"}
    (three[0] / "config.json").write_text(json.dumps(config))
    average(three[:2], tmp_path / "mean")
    assert factor_of(tmp_path / "mean", three[0]) == 1.5


def test_checkpoints_that_differ_in_kind_have_no_average(three, tmp_path):
    other = write_tiny_checkpoint(tmp_path / "other", "bert", query_attention_start=1)
    with pytest.raises(CheckpointError, match=r"one` and `.*other` have different configs, so their mean is no model"):
        average([three[0], other], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


@pytest.mark.parametrize(
    ("weights", "message"),
    [([1.0], "one number for each of the 3 checkpoints, got 1"), ([1, -1, 0], "must have a sum above 0, got")],
)
def test_weights_that_do_not_fit_are_refused(three, tmp_path, weights, message):
    with pytest.raises(ConfigError, match=message):
        average(three, tmp_path / "mean", weights=weights)


def test_other_arguments_that_do_not_fit_are_refused(three, tmp_path):
    with pytest.raises(ConfigError, match="an average needs at least one checkpoint, got none"):
        average([], tmp_path / "mean")
    with pytest.raises(ConfigError, match=r"`share` must be between 0 and 1, got 1\.5"):
        interpolate(three[0], three[1], tmp_path / "mean", share=1.5)
    with pytest.raises(CheckpointError, match="exists already"):
        average(three, three[0])
