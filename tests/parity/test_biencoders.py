"""Bi-encoders, plain and fused, with the label tokenizer from either place."""

import json
import shutil

import pytest
from asks import FEW_SHOT, RAC, TREE
from grids import thinned
from tiny import LABELS, TEXT
from upstream import check_same

from gliclass_rerank import ZeroShotClassifier
from gliclass_rerank.errors import CheckpointError, ConfigError, InputError

ARCHITECTURES = ("bi-encoder", "bi-encoder-fused")
YES_AND_NO = (True, False)
# One token each for the label tokenizer. Upstream pads labels to the longest one and pools the padding too.
EVEN_LABELS = ["noise", "praise", "repair", "safety", "comfort"]


@pytest.mark.parametrize(
    ("architecture", "pooler", "scorer"),
    thinned(
        ARCHITECTURES,
        ["first", "last", "max", "avg", "sum", "rms", "abs_max", "abs_avg"],
        ["simple", "weighted-dot", "mlp", "hopfield"],
    ),
)
def test_poolers_and_scorers_work_in_bi_encoders(biencoder, architecture, pooler, scorer):
    built = biencoder(
        architecture, label_words="word_level", pooling_strategy=pooler, scorer_type=scorer, prompt_first=True
    )
    built.check(labels=EVEN_LABELS)


@pytest.mark.parametrize("scorer", ["simple", "weighted-dot", "mlp", "hopfield"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bi_encoders_may_normalise_features(biencoder, architecture, scorer):
    biencoder(architecture, scorer_type=scorer, normalize_features=True, prompt_first=True).check()


@pytest.mark.parametrize(
    ("backbone", "label_backbone"),
    [
        ("bert", "bert"),
        ("deberta", "modernbert"),
        ("modernbert", "deberta"),
        ("electra", "roberta"),
        ("roberta", "electra"),
        ("modernbert", "bert"),
        ("bert", "deberta-v2"),
        ("deberta-v2", "distilbert"),
    ],
)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_any_two_backbones_go_together(biencoder, architecture, backbone, label_backbone):
    # Upstream gives label vectors the encoder's width and puts them among the word embeddings.
    encoder = {"embedding_size": 32} if backbone == "electra" else {}
    biencoder(architecture, backbone, label_backbone, encoder=encoder, prompt_first=True).check()


@pytest.mark.parametrize(
    "ask",
    [
        {"labels": LABELS[:1]},
        {"labels": LABELS[:2]},
        {"labels": [f"{one} {two}" for one in EVEN_LABELS for two in (*EVEN_LABELS, "other")]},
        {"labels": TREE},
        {"prompt": "Classify the text by topic:"},
        {"text": "  the chain \n\n slips\t ", "prompt": " two  spaces "},
    ],
    ids=str,
)
@pytest.mark.parametrize("prompt_first", YES_AND_NO)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_prompt_forms_of_bi_encoders(biencoder, architecture, prompt_first, ask):
    biencoder(architecture, prompt_first=prompt_first).check(**ask)


@pytest.mark.parametrize("examples", [{"examples": FEW_SHOT, "example_format": "few_shot"}, {"examples": RAC}])
@pytest.mark.parametrize("prompt_first", YES_AND_NO)
def test_the_fused_bi_encoder_reads_examples(biencoder, prompt_first, examples):
    settings = {"prompt": "Classify:", "example_format": "rac", **examples}
    biencoder("bi-encoder-fused", prompt_first=prompt_first).check(**settings)


def test_the_plain_bi_encoder_refuses_examples_because_it_never_reads_them(biencoder):
    with pytest.raises(InputError, match="have no place in the architecture 'bi-encoder'"):
        biencoder("bi-encoder").classifier().logits(TEXT, LABELS, examples=FEW_SHOT)


def test_unequal_labels_are_pooled_without_their_padding(biencoder):
    """Upstream's scores depend on the longest label of the call; ours are what each label gets alone."""
    built = biencoder("bi-encoder", pooling_strategy="avg")
    alone = [built.upstream.logits(TEXT, [label])[0] for label in LABELS]
    check_same(built.classifier().logits(TEXT, LABELS), alone)


@pytest.mark.parametrize("use_bias", YES_AND_NO)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_calibrator_works_in_bi_encoders(biencoder, architecture, use_bias):
    built = biencoder(architecture, use_calibrator=True, calibrator_use_bias=use_bias, calibrator_hidden_size=20)
    built.check()
    built.check(labels=LABELS[:1])


@pytest.mark.parametrize("hidden_size", [12, 40])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bi_encoders_may_have_a_bottleneck(biencoder, architecture, hidden_size):
    biencoder(architecture, hidden_size=hidden_size, projector_hidden_act="tanh").check()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_unread_modules_of_bi_encoders_are_accepted(biencoder, architecture):
    biencoder(architecture, use_lstm=True, squeeze_layers=True).check()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_label_tokenizer_in_the_folder_comes_before_the_named_one(biencoder, architecture):
    built = biencoder(architecture)
    expected = built.upstream.logits(TEXT, LABELS)
    values = json.loads((built.folder / "config.json").read_text())
    values["label_model_name"] = "somebody/elsewhere"
    (built.folder / "config.json").write_text(json.dumps(values))
    check_same(ZeroShotClassifier(built.folder, device="cpu").logits(TEXT, LABELS), expected)


def test_a_local_bi_encoder_never_reads_a_label_tokenizer_elsewhere(biencoder, tmp_path):
    built = biencoder("bi-encoder")
    shutil.move(built.folder / "label_tokenizer", tmp_path / "elsewhere")
    for name in (str(tmp_path / "elsewhere"), "somebody/elsewhere", "~/elsewhere", "../elsewhere"):
        values = json.loads((built.folder / "config.json").read_text())
        (built.folder / "config.json").write_text(json.dumps({**values, "label_model_name": name}))
        with pytest.raises(CheckpointError, match=r"a local folder's `label_model_name` '\S+' is not fetched"):
            built.classifier()


def test_a_bi_encoder_of_the_hub_has_its_label_tokenizer_fetched(biencoder, tmp_path, monkeypatch):
    built = biencoder("bi-encoder")
    expected = built.upstream.logits(TEXT, LABELS)
    shutil.move(built.folder / "label_tokenizer", tmp_path / "elsewhere")
    values = json.loads((built.folder / "config.json").read_text())
    (built.folder / "config.json").write_text(json.dumps({**values, "label_model_name": "somebody/elsewhere"}))
    folders, asked = {"owner/model": built.folder, "somebody/elsewhere": tmp_path / "elsewhere"}, []

    def fetch(name, *, revision, allow_patterns):
        asked.append((name, revision))
        return str(folders[name])

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    check_same(ZeroShotClassifier("owner/model", revision="0123abc", device="cpu").logits(TEXT, LABELS), expected)
    assert asked == [("owner/model", "0123abc"), ("somebody/elsewhere", None)]

    (built.folder / "config.json").write_text(json.dumps({**values, "label_model_name": str(tmp_path / "elsewhere")}))
    with pytest.raises(CheckpointError, match="is not a hub name"):
        ZeroShotClassifier("owner/model", device="cpu")


def test_a_bi_encoder_without_any_label_tokenizer_is_refused(biencoder):
    built = biencoder("bi-encoder")
    shutil.rmtree(built.folder / "label_tokenizer")
    values = json.loads((built.folder / "config.json").read_text())
    values["label_model_name"] = None
    (built.folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match="names no label tokenizer"):
        built.classifier()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bi_encoders_have_no_attention_plan(biencoder, architecture):
    built = biencoder(architecture)
    assert built.classifier().plan is None
    with pytest.raises(ConfigError, match="has no attention plan"):
        built.classifier(plan="shared_query")
