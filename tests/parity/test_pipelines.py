"""The same program on both packages: one import line differs, results do not."""

import gliclass
import pytest
from asks import FEW_SHOT, RAC, TREE
from tiny import CORPUS, TEXT
from tiny import LABELS as NAMES
from tokenizers import normalizers
from transformers import AutoTokenizer
from upstream import TOLERANCE, build_biencoder, build_pair

from gliclass_rerank import ZeroShotClassifier, upstream

LABELS = list(NAMES)
TEXTS = [TEXT, *CORPUS[:3]]
TREES = [TREE, {"part": ["hub", "rim"]}, TREE, {"part": ["hub", "rim"]}]
LONG = " ".join(CORPUS)

# The calls of upstream's README and model cards, in this order, and what its signature allows beyond them.
CALLS = {
    "a text and labels": (TEXT, LABELS, {}),
    "every label": (TEXT, LABELS, {"threshold": 0.0}),
    "a label tree": (TEXT, TREE, {}),
    "a tree of scores": (TEXT, TREE, {"return_hierarchical": True}),
    "few-shot examples": (TEXT, LABELS, {"examples": FEW_SHOT, "threshold": 0.3}),
    "a prompt": (TEXT, LABELS, {"prompt": "Classify the text by topic: "}),
    "a prompt per text": (TEXTS[:2], LABELS, {"prompt": ["Classify by topic: ", "Classify by mood: "]}),
    "a retrieved example": (TEXT, LABELS, {"threshold": 0.1, "rac_examples": RAC[:1]}),
    "a premise and a hypothesis": (TEXT, ["The chain is dry."], {"threshold": 0.0}),
    "several texts": (TEXTS, LABELS, {"batch_size": 3}),
    "labels per text": (TEXTS[:2], [["noise"], ["praise", "repair"]], {"threshold": 0.0}),
    "trees per text": (TEXTS, TREES, {"return_hierarchical": True, "batch_size": 2}),
    "flat scores": (TEXTS, LABELS, {"return_hierarchical": True}),
    "exactly one label": (TEXTS, LABELS, {"classification_type": "single-label"}),
    "exactly one label, all scores": (TEXTS, TREE, {"classification_type": "single", "return_hierarchical": True}),
    "a type per text": (TEXTS[:2], LABELS, {"classification_type": ["single-label", "multi_label"], "threshold": 0.0}),
    "a threshold per text": (TEXTS[:2], LABELS, {"threshold": [0.0, 0.6]}),
    "examples per text": (TEXTS[:3], LABELS, {"examples": [FEW_SHOT, None, FEW_SHOT[:1]], "batch_size": 2}),
    "retrieved examples per text": (TEXTS[:2], LABELS, {"rac_examples": [RAC, RAC[1:]], "threshold": 0.0}),
    "everything": (TEXT, TREE, {"examples": FEW_SHOT, "prompt": "Classify: ", "threshold": 0.2, "batch_size": 1}),
}
CHUNKED = {
    "a short text": (TEXT, LABELS, {"threshold": 0.0}),
    "a long text": (LONG, LABELS, {"threshold": 0.0, "text_chunk_size": 90, "text_chunk_overlap": 20}),
    "many labels": (TEXTS, " ".join(CORPUS).split()[:9], {"threshold": 0.0, "labels_chunk_size": 4}),
    "a tree of scores": (
        [TEXT, LONG],
        TREE,
        {"return_hierarchical": True, "text_chunk_size": 70, "text_chunk_overlap": 0},
    ),
    "a prompt and examples": (LONG, LABELS, {"prompt": "Classify: ", "examples": FEW_SHOT, "threshold": 0.0}),
    "a retrieved example": (TEXT, LABELS, {"rac_examples": RAC[:1], "threshold": 0.0}),
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipelines") / "checkpoint"
    # With normalised features scores are spread over [0, 1].
    options = {"class_token_pooling": "average", "use_segment_embeddings": True, "normalize_features": True}
    return build_pair(folder, "deberta", prompt_first=True, **options)


def quiet(module, name, *args, **options):
    return getattr(module, name)(*args, device="cpu", progress_bar=False, **options)


def program(module, folder, name="ZeroShotClassificationPipeline", **options):
    """A program of upstream's README, with the module it imports from left open."""
    model = module.GLiClassModel.from_pretrained(folder)
    return quiet(module, name, model, AutoTokenizer.from_pretrained(folder), **options)


@pytest.fixture(scope="module")
def pipelines(pair):
    return program(upstream, pair.folder), program(gliclass, pair.folder)


@pytest.fixture(params=["multi-label", "single-label"])
def chunking(pair, request):
    # Made for each call: upstream's keeps the sizes of a call for the next one.
    name = "ZeroShotClassificationWithChunkingPipeline"
    return [program(module, pair.folder, name, classification_type=request.param) for module in (upstream, gliclass)]


def check_equal(ours, theirs):
    """Equal results, number by number."""
    assert type(ours) is type(theirs)
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key, value in theirs.items():
            check_equal(ours[key], value)
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for mine, other in zip(ours, theirs, strict=True):
            check_equal(mine, other)
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, abs=TOLERANCE)
    else:
        assert ours == theirs


@pytest.mark.parametrize("call", CALLS)
def test_a_call_gives_upstreams_result(pipelines, call):
    texts, labels, arguments = CALLS[call]
    ours, theirs = (pipeline(texts, labels, **arguments) for pipeline in pipelines)

    assert any(theirs)
    check_equal(ours, theirs)


@pytest.mark.parametrize("call", CHUNKED)
def test_a_call_in_chunks_gives_upstreams_result(chunking, call):
    texts, labels, arguments = CHUNKED[call]
    ours, theirs = (pipeline(texts, labels, **arguments) for pipeline in chunking)

    assert any(theirs)
    check_equal(ours, theirs)


@pytest.mark.parametrize("given", ["a folder", "a path", "a classifier", "a network", "a network and a folder"])
def test_a_model_may_come_in_several_forms(pair, pipelines, given):
    network, tokenizer, folder = pair.upstream.model, pair.upstream.tokenizer, str(pair.folder)
    forms = {
        "a folder": (folder, None),
        "a path": (pair.folder, folder),
        "a classifier": (ZeroShotClassifier(pair.folder, device="cpu"), None),
        "a network": (network, tokenizer),
        "a network and a folder": (network, folder),
    }

    ours = quiet(upstream, "ZeroShotClassificationPipeline", *forms[given])

    assert ours(TEXTS, LABELS, 0.0) == pipelines[0](TEXTS, LABELS, 0.0)


def test_another_tokenizer_is_the_one_that_is_used(pair, pipelines):
    other = AutoTokenizer.from_pretrained(pair.folder)
    other.backend_tokenizer.normalizer = normalizers.Replace("chain", "brakes")
    model = gliclass.GLiClassModel.from_pretrained(pair.folder)
    theirs = quiet(gliclass, "ZeroShotClassificationPipeline", model, other)
    ours = quiet(upstream, "ZeroShotClassificationPipeline", str(pair.folder), other)

    assert ours(TEXT, LABELS, 0.0) != pipelines[0](TEXT, LABELS, 0.0)
    check_equal(ours(TEXT, LABELS, 0.0), theirs(TEXT, LABELS, 0.0))


@pytest.mark.parametrize("architecture", ["bi-encoder", "bi-encoder-fused"])
def test_bi_encoders_give_upstreams_result(tmp_path, architecture):
    pair = build_biencoder(tmp_path / "checkpoint", architecture)
    theirs = quiet(gliclass, "ZeroShotClassificationPipeline", pair.upstream.model, pair.upstream.tokenizer)
    ours = program(upstream, pair.folder)

    check_equal(ours(TEXT, LABELS, 0.0), theirs(TEXT, LABELS, 0.0))
