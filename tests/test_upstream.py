"""`gliclass_rerank.upstream` where it differs from the `gliclass` package, and what it refuses."""

import subprocess
import sys

import pytest
from example_stores import Source
from tiny_checkpoints import words

from gliclass_rerank import Example, InputError, ZeroShotClassifier, upstream

LABELS = ["oil", "wax", "rust"]
TEXTS = ["chain slip", "brake squeal"]


@pytest.fixture(scope="module")
def classifier(tiny_folders):
    return ZeroShotClassifier(tiny_folders["deberta-v2"], device="cpu", max_window_tokens=60)


@pytest.fixture(scope="module")
def pipeline(classifier):
    return upstream.ZeroShotClassificationPipeline(classifier)


@pytest.fixture
def chunking(classifier):
    return upstream.ZeroShotClassificationWithChunkingPipeline(classifier)


def test_importing_it_loads_nothing_heavy():
    code = "import sys, gliclass_rerank.upstream; print({'torch', 'transformers', 'gliclass'} & set(sys.modules))"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
    assert dir(upstream) == upstream.__all__


def test_a_tree_of_scores_has_the_shape_of_the_labels(pipeline):
    tree = {"care": {"wet": ["oil"], "dry": "wax"}, "part": ["hub", "hub"]}

    (found,) = pipeline("chain", tree, return_hierarchical=True)

    assert {name: list(value) for name, value in found.items()} == {"care": ["wet", "dry"], "part": ["hub"]}
    assert pipeline.flatten_labels(tree) == ["care.wet.oil", "care.dry.wax", "part.hub", "part.hub"]
    assert found["care"]["dry"] == {"wax": pipeline("chain", tree, 0.0)[0][1]["score"]}


def test_the_separator_of_a_tree_is_what_the_model_reads(classifier):
    pipeline = upstream.ZeroShotClassificationPipeline(classifier, label_separator=" ")

    assert pipeline("chain", {"care": ["oil"]}, 0.0)[0][0]["label"] == "care oil"


def test_no_labels_and_no_texts_give_empty_results(pipeline, chunking):
    for each in (pipeline, chunking):
        assert each(TEXTS, []) == [[], []]
        assert each([], LABELS) == []
        assert each("chain", {}, return_hierarchical=True) == [{}]
        assert each("chain", [], classification_type="single") == [[]] if each is pipeline else True


def test_one_list_of_retrieved_examples_is_shown_with_every_text(pipeline):
    examples = [{"text": "brake squeal", "true_labels": ["rust"], "all_labels": ["rust", "oil"]}]

    several = pipeline(TEXTS, LABELS, 0.0, rac_examples=examples)

    assert several == pipeline(TEXTS, LABELS, 0.0, rac_examples=[examples, examples])
    assert several != pipeline(TEXTS, LABELS, 0.0)


def test_a_retrieved_example_without_true_labels_is_shown(pipeline):
    example = {"text": "brake squeal", "true_labels": [], "all_labels": ["oil"]}

    assert pipeline("chain", LABELS, 0.0, rac_examples=[example]) != pipeline("chain", LABELS, 0.0)


def test_the_sizes_of_one_call_do_not_outlast_it(chunking):
    text = words(40)
    before = chunking(text, LABELS, 0.0)

    changed = chunking(text, LABELS, 0.0, text_chunk_size=30, text_chunk_overlap=5, labels_chunk_size=1)

    assert changed != before == chunking(text, LABELS, 0.0)


def test_a_chunk_that_outgrows_the_window_is_split_again(chunking, classifier):
    (found,) = chunking(words(200), LABELS, 0.0)

    (expected,) = classifier.classify(words(200), LABELS, 0.0, long_texts="max")
    assert {each["label"]: each["score"] for each in found} == dict(zip(LABELS, expected.scores, strict=True))
    assert expected.num_chunks > 1


def test_each_text_may_have_labels_and_examples_of_its_own_in_chunks(chunking):
    examples = [[{"text": "cold hand", "labels": ["oil"]}], None]
    texts = [words(30), "brake squeal"]

    found = chunking(
        texts, [["oil"], ["wax", "rust"]], 0.0, examples=examples, text_chunk_size=80, text_chunk_overlap=0
    )

    alone = chunking(texts[0], ["oil"], 0.0, examples=examples[0], text_chunk_size=80, text_chunk_overlap=0)
    assert found[0][0]["score"] == pytest.approx(alone[0][0]["score"], abs=1e-5)
    assert [len(each) for each in found] == [1, 2]


def test_the_examples_of_a_classifiers_store_are_used_unless_others_are_given(tiny_folders):
    source = Source([[Example("cold hand", ("oil",))]])
    classifier = ZeroShotClassifier(tiny_folders["bert"], device="cpu", example_store=source)
    pipeline = upstream.ZeroShotClassificationPipeline(classifier)

    pipeline("chain", LABELS)
    pipeline("brake", LABELS, examples=[])
    pipeline("brake", LABELS, examples=[None])

    assert [asked[0] for asked in source.asked] == [["chain"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classification_type": "singel"}, "must be 'multi-label' or 'single-label', got 'singel'"),
        ({"classification_type": ["single"]}, "`classification_type` must hold one for each of the 2 texts, got 1"),
        ({"threshold": [0.5]}, "`threshold` must hold one for each of the 2 texts, got 1"),
        ({"threshold": 7}, "`threshold` must be between 0 and 1, got 7"),
        ({"prompt": ["one"]}, "`prompt` must hold one for each of the 2 texts, got 1"),
        ({"prompt": 7}, "`prompt` must be a string, got 7"),
        ({"batch_size": 0}, "`batch_size` must be a whole number of at least 1, got 0"),
        ({"examples": [[], [], []]}, "`examples` must hold one for each of the 2 texts, got 3"),
        ({"examples": [{"text": "a"}], "rac_examples": [{"text": "a"}]}, "cannot be shown together, got both"),
    ],
)
def test_wrong_arguments_are_refused(pipeline, arguments, message):
    with pytest.raises(InputError, match=message):
        pipeline(TEXTS, LABELS, **arguments)


def test_wrong_sizes_are_refused(chunking, classifier):
    with pytest.raises(InputError, match="`text_chunk_overlap` must be less than `text_chunk_size` 70, got 256"):
        chunking("chain", LABELS, text_chunk_size=70)
    with pytest.raises(InputError, match="`labels_chunk_size` must be a whole number of at least 1, got 0"):
        upstream.ZeroShotClassificationWithChunkingPipeline(classifier, labels_chunk_size=0)


@pytest.mark.parametrize(
    ("model", "tokenizer", "message"),
    [
        (7, None, "`model` must be a folder, a name, a `ZeroShotClassifier` or a network of gliclass, got 7"),
        (dict, None, "`model` must be a folder"),
    ],
)
def test_wrong_models_are_refused(model, tokenizer, message):
    with pytest.raises(InputError, match=message):
        upstream.ZeroShotClassificationPipeline(model, tokenizer)


def test_a_wrong_tokenizer_is_refused(tiny_folders):
    with pytest.raises(InputError, match="`tokenizer` must be a tokenizer of transformers, a folder or a name, got 7"):
        upstream.ZeroShotClassificationPipeline(tiny_folders["bert"], 7, device="cpu")


def test_the_type_of_classification_is_checked_before_anything_is_loaded():
    with pytest.raises(InputError, match="`classification_type` must be"):
        upstream.ZeroShotClassificationPipeline("no/such-model", classification_type="both")


def test_a_maximum_length_is_the_window(tiny_folders, caplog):
    pipeline = upstream.ZeroShotClassificationPipeline(tiny_folders["bert"], max_length=20, device="cuda:0")

    assert pipeline.classifier.classify(words(50), ["oil"])[0].truncated is not None
    assert pipeline.classifier.settings["max_window_tokens"] == 20


def test_a_model_by_name_carries_its_revision_and_precision(tiny_folders):
    model = upstream.GLiClassModel.from_pretrained(tiny_folders["bert"], torch_dtype="float32").to("cpu").eval()

    assert model.settings == {"model": tiny_folders["bert"], "revision": None, "dtype": "float32"}
    assert upstream.ZeroShotClassificationPipeline(model, device="cpu").classifier.dtype == "float32"
    assert upstream.GLiClassBiEncoder is upstream.GLiClassModel
