"""Checkpoints travel: from upstream to us, saved by us, back to upstream, always with the same logits."""

import pytest
import torch
from gliclass import GLiClassModel
from safetensors.torch import load_file
from tiny import BACKBONES, LABELS, TEXT
from transformers import AutoTokenizer
from upstream import Upstream, check_same

from gliclass_rerank import ZeroShotClassifier
from gliclass_rerank.checkpoint.loading import load_checkpoint, save_checkpoint

OPTIONS = [
    {},
    {"use_calibrator": True, "calibrator_use_bias": True},
    {"use_segment_embeddings": True, "use_lstm": True},
    {"hidden_size": 12, "normalize_features": True},
    {"scorer_type": "mlp"},
    {"scorer_type": "hopfield"},
    {"scorer_type": "weighted-dot"},
    {"scorer_type": "cross-attn", "pooling_strategy": "pass"},
]


def check_journey(built, folder):
    expected = built.upstream.logits(TEXT, LABELS)
    ours = built.classifier().logits(TEXT, LABELS)
    save_checkpoint(load_checkpoint(built.folder), folder)
    assert ZeroShotClassifier(folder, device="cpu").logits(TEXT, LABELS) == ours
    model = GLiClassModel.from_pretrained(folder).eval()
    check_same(Upstream(model, AutoTokenizer.from_pretrained(folder)).logits(TEXT, LABELS), expected)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_upstream_reads_what_we_save(pair, tmp_path, backbone):
    check_journey(pair(backbone, prompt_first=True, pooling_strategy="avg"), tmp_path / "saved")


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_upstream_reads_every_head_we_save(pair, tmp_path, options):
    check_journey(pair("deberta", **options), tmp_path / "saved")


@pytest.mark.parametrize("architecture", ["bi-encoder", "bi-encoder-fused"])
def test_upstream_reads_bi_encoders_we_save(biencoder, tmp_path, architecture):
    built = biencoder(architecture, use_calibrator=True, calibrator_hidden_size=20)
    check_journey(built, tmp_path / "saved")
    assert (tmp_path / "saved" / "label_tokenizer" / "tokenizer.json").is_file()


@pytest.mark.parametrize("backbone", ["bert", "deberta", "modernbert", "t5"])
def test_we_save_the_tensors_that_upstream_saves(pair, tmp_path, backbone):
    built = pair(backbone, use_calibrator=True)
    save_checkpoint(load_checkpoint(built.folder), tmp_path / "saved")
    theirs = load_file(built.folder / "model.safetensors")
    ours = load_file(tmp_path / "saved" / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
