"""Pieces tokenised on their own give the ids that upstream gets from the concatenated string."""

import itertools
import json
from types import SimpleNamespace

import pytest
import torch
from asks import FEW_SHOT, RAC
from gliclass.pipeline import UniEncoderZeroShotClassificationPipeline
from gliclass.utils import retrieval_augmented_text
from tiny import LABELS, TEXT, TOKENIZERS, tiny_tokenizer
from transformers import AutoTokenizer, BertTokenizer, DebertaV2Tokenizer, RobertaTokenizer, T5Tokenizer

from gliclass_rerank.errors import CheckpointError
from gliclass_rerank.prompt.layout import PromptLayout, ScoringRequest
from gliclass_rerank.prompt.pieces import EXAMPLE, LABEL, SEP
from gliclass_rerank.prompt.planner import WindowPlanner
from gliclass_rerank.prompt.tokenizer_files import load_tokenizer
from gliclass_rerank.types import Example

MARKERS = (LABEL, SEP, EXAMPLE)
STRINGS = (
    TEXT,
    "",
    " ",
    " leading and trailing  ",
    "\nnew\n\nlines\t tab\n",
    "café Größe 日本語 e\u0301 \u00a0 \u200b ﬁ",
    "two  spaces   three    four",
    "'s brakes,squeal!  ",
    "Oil",
)


def _families():
    """Tokenizer classes of transformers, which rebuild themselves when they are loaded."""
    pieces = list(json.loads(TOKENIZERS["word_piece"]().to_str())["model"]["vocab"])
    unigram = json.loads(TOKENIZERS["metaspace_always"]().to_str())["model"]["vocab"]
    bpe = json.loads(TOKENIZERS["byte_level"]().to_str())["model"]
    merges = [tuple(merge) for merge in bpe["merges"]]
    roberta_vocab = {
        token: index for index, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", *bpe["vocab"]])
    }
    words = [(piece, score) for piece, score in unigram if not piece.startswith("[")]
    return {
        "BertTokenizer": lambda: BertTokenizer(vocab={piece: index for index, piece in enumerate([*pieces, "[MASK]"])}),
        "DebertaV2Tokenizer": lambda: DebertaV2Tokenizer(
            vocab=[("[PAD]", 0.0), ("[CLS]", 0.0), ("[SEP]", 0.0), ("[UNK]", 0.0), *words, ("[MASK]", 0.0)]
        ),
        "T5Tokenizer": lambda: T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *words], extra_ids=3),
        "RobertaTokenizer": lambda: RobertaTokenizer(vocab=roberta_vocab, merges=merges, add_prefix_space=True),
    }


def _make(kind, special):
    if kind in TOKENIZERS:
        return tiny_tokenizer(kind, special=special)
    tokenizer = _families()[kind]()
    tokenizer.add_tokens(list(MARKERS), special_tokens=special)
    return tokenizer


@pytest.fixture(
    scope="module",
    params=[(kind, special) for kind in (*TOKENIZERS, *_families()) for special in (True, False)],
    ids=lambda param: f"{param[0]}-{'special' if param[1] else 'plain'}",
)
def loaded(request, tmp_path_factory):
    """One saved tokenizer, loaded by upstream's way and by ours."""
    path = tmp_path_factory.mktemp("tokenizer")
    _make(*request.param).save_pretrained(path)
    return AutoTokenizer.from_pretrained(path), load_tokenizer(path)


def _upstream_ids(tokenizer, prompt_first, *, text, labels, prompt=None, examples=None, example_format=None):
    model = SimpleNamespace(
        config=SimpleNamespace(prompt_first=prompt_first), device=torch.device("cpu"), eval=lambda: None
    )
    pipeline = UniEncoderZeroShotClassificationPipeline(model, tokenizer, device="cpu")
    if example_format == "rac":
        text, examples = retrieval_augmented_text(text, examples), None
    inputs = pipeline.prepare_inputs([text], labels, same_labels=True, examples=examples, prompt=prompt)
    return inputs["input_ids"][0].tolist()


def _window(tokenizer, prompt_first, *, text, labels, prompt=None, examples=(), example_format="rac"):
    layout = PromptLayout(tokenizer, prompt_first=prompt_first)
    planner = WindowPlanner(layout=layout, max_window_tokens=4096, window_tokens=lambda overhead: 4096)
    ask = ScoringRequest(
        text=text,
        candidates=labels,
        prompt=prompt or "",
        examples=tuple(map(Example.of, examples)),
        example_format=example_format,
    )
    (window,) = planner.plan(ask, truncate_side="text").requests
    return window


@pytest.mark.parametrize("prompt_first", [True, False])
def test_pieces_give_the_ids_of_the_whole_string(loaded, prompt_first):
    theirs, ours = loaded
    forms = (
        {},
        {"prompt": "Classify: "},
        {"examples": FEW_SHOT, "example_format": "few_shot"},
        {"examples": RAC, "example_format": "rac", "prompt": " two  spaces "},
    )
    for text, form in itertools.product(STRINGS, forms):
        settings = {"text": text, "labels": list(LABELS[:2]), **form}
        ids = list(_window(ours, prompt_first, **settings).token_ids)
        assert ids == _upstream_ids(theirs, prompt_first, **settings), settings
    settings = {"text": TEXT, "labels": list(STRINGS)}
    assert list(_window(ours, prompt_first, **settings).token_ids) == _upstream_ids(theirs, prompt_first, **settings)


def test_examples_made_of_any_string_give_the_same_ids(loaded):
    theirs, ours = loaded
    examples = [
        {"text": text, "true_labels": [text, "noise"], "all_labels": ["noise", text, "x"]}
        for text in STRINGS
        if text.strip()  # a blank one is refused, as it shows nothing
    ]
    for example_format in ("few_shot", "rac"):
        settings = {"text": TEXT, "labels": ["noise"], "examples": examples, "example_format": example_format}
        assert list(_window(ours, True, **settings).token_ids) == _upstream_ids(theirs, True, **settings)


def test_written_markers_stay_text_however_the_tokenizer_holds_them(loaded):
    _, ours = loaded
    spelled = " ".join((*MARKERS, *(marker.lower() for marker in MARKERS)))
    window = _window(
        ours,
        True,
        text=spelled,
        labels=[spelled, f"x{spelled}"],
        prompt=spelled,
        examples=[{"text": spelled, "true_labels": [spelled]}],
        example_format="few_shot",
    )
    label, sep, example = (ours.marker_id(marker) for marker in MARKERS)
    assert [index for index, token in enumerate(window.token_ids) if token == label] == list(window.markers)
    assert window.token_ids.count(sep) == 2  # one opens the text, one closes the examples
    assert window.token_ids.count(example) == 1


@pytest.mark.parametrize("kind", ["BertTokenizer", "word_piece"])
@pytest.mark.parametrize("backbone", ["bert", "deberta", "electra"])
def test_logits_agree_whether_or_not_the_tokenizer_makes_token_types(pair, backbone, kind):
    built = pair(backbone, tokenizer=_make(kind, special=True), prompt_first=True)
    assert ("token_type_ids" in built.upstream.inputs(TEXT, LABELS)) == (kind == "BertTokenizer")
    built.check()


def test_a_normaliser_that_breaks_up_the_markers_is_refused(tmp_path):
    tokenizer = tiny_tokenizer("metaspace_never", special=False)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["normalizer"] = {"type": "Prepend", "prepend": "▁"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(CheckpointError, match="must be added as special tokens"):
        load_tokenizer(tmp_path)
