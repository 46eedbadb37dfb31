"""The constructor, what it saves and what it refuses."""

import copy
import inspect
import pickle
from pathlib import Path

import pytest
from haystack import Document, Pipeline
from haystack.core.errors import DeserializationError
from haystack.utils import ComponentDevice, Device, DeviceMap
from haystack_integrations.components.rankers.gliclass import GLiClassRanker

from gliclass_rerank import ConfigError, Example
from gliclass_rerank.testing import PASSAGES, QUERY, shared_reranker

TYPE = "haystack_integrations.components.rankers.gliclass.ranker.GLiClassRanker"
DEFAULTS = {
    "model": None,
    "device": None,
    "dtype": None,
    "plan": None,
    "revision": None,
    "max_window_tokens": None,
    "max_example_tokens": None,
    "batch_tokens": None,
    "backend": None,
    "threads": None,
    "example_store": None,
    "num_examples": 3,
    "min_example_similarity": 0.5,
    "allow_same_text": True,
    "window_tokens": None,
    "long_query": "cut",
    "long_passages": "best_chunk",
    "max_example_passages": None,
    "passage_cache": None,
    "log": None,
    "log_texts": True,
    "log_days": None,
    "reranker": None,
    "top_k": None,
    "score_threshold": None,
    "query_prefix": "",
    "passage_prefix": "",
    "meta_fields_to_embed": None,
    "embedding_separator": "\n",
    "fusion": None,
    "fusion_weight": 0.5,
    "examples": None,
    "on_error": "raise",
    "keep_retrieval_score": False,
    "report_truncation": False,
}
CHANGED = {
    "model": Path("folder/model"),
    "device": ComponentDevice.from_single(Device.gpu(1)),
    "dtype": "bfloat16",
    "plan": "joint",
    "revision": "main",
    "max_window_tokens": 64,
    "max_example_tokens": 32,
    "batch_tokens": 512,
    "backend": "onnx",
    "threads": 2,
    "example_store": Path("folder/store.db"),
    "num_examples": 5,
    "min_example_similarity": 0.25,
    "allow_same_text": False,
    "window_tokens": 48,
    "long_query": "error",
    "long_passages": "cut",
    "max_example_passages": 2,
    "passage_cache": Path("folder/cache"),
    "log": Path("folder/feedback.db"),
    "log_texts": False,
    "log_days": 30,
    "top_k": 3,
    "score_threshold": 0.0,
    "query_prefix": "query: ",
    "passage_prefix": "passage: ",
    "meta_fields_to_embed": ("title", "chapter"),
    "embedding_separator": " ",
    "fusion": "weighted",
    "fusion_weight": 0.25,
    "examples": (
        Example("flat tyre", true_labels=("Patch it.",), false_labels=("Bake it.",)),
        {"text": "x", "labels": ["y"]},
    ),
    "on_error": "keep_order",
    "keep_retrieval_score": True,
    "report_truncation": True,
}


def saved(ranker):
    pipeline = Pipeline()
    pipeline.add_component("ranker", ranker)
    return pipeline.dumps()


def documents():
    return [Document(content=passage) for passage in PASSAGES[:4]]


def summary(ranker):
    return [(document.content, document.score) for document in ranker.run(QUERY, documents())["documents"]]


def test_the_saved_type_is_the_defining_module_which_can_never_move():
    assert GLiClassRanker().to_dict() == {"type": TYPE, "init_parameters": DEFAULTS}


def test_exactly_the_constructors_arguments_are_saved_and_they_are_keyword_only():
    parameters = list(inspect.signature(GLiClassRanker.__init__).parameters.values())[1:]
    assert [parameter.name for parameter in parameters] == list(DEFAULTS)
    assert {parameter.kind for parameter in parameters} == {inspect.Parameter.KEYWORD_ONLY}
    assert {parameter.name: parameter.default for parameter in parameters} == DEFAULTS


def test_every_setting_is_saved_as_plain_values():
    assert GLiClassRanker(**CHANGED).to_dict()["init_parameters"] == {
        **CHANGED,
        "model": str(Path("folder/model")),
        "example_store": str(Path("folder/store.db")),
        "passage_cache": str(Path("folder/cache")),
        "log": str(Path("folder/feedback.db")),
        "device": {"type": "single", "device": "cuda:1"},
        "reranker": None,
        "meta_fields_to_embed": ["title", "chapter"],
        "examples": [
            {"text": "flat tyre", "true_labels": ["Patch it."], "false_labels": ["Bake it."]},
            {"text": "x", "true_labels": ["y"], "false_labels": []},
        ],
    }


@pytest.mark.parametrize(
    "settings",
    [{}, CHANGED, {"reranker": {"model": Path("folder"), "max_window_tokens": 64}, "device": None}],
    ids=["defaults", "changed", "reranker"],
)
def test_yaml_round_trips_exactly_and_loads_without_an_allow_list(settings):
    text = saved(GLiClassRanker(**settings))
    loaded = Pipeline.loads(text)
    assert loaded.dumps() == text
    assert "!!" not in text
    assert loaded.get_component("ranker").to_dict() == GLiClassRanker(**settings).to_dict()


def test_yaml_may_name_the_settings_that_differ_only():
    text = saved(GLiClassRanker())
    start, end = text.index("    init_parameters:"), text.index("    type: haystack_integrations")
    short = text[:start] + "    init_parameters: {top_k: 2, device: {type: single, device: cpu}}\n" + text[end:]
    ranker = Pipeline.loads(short).get_component("ranker")
    assert ranker.to_dict() == GLiClassRanker(top_k=2, device=ComponentDevice.from_str("cpu")).to_dict()
    assert GLiClassRanker.from_dict({"type": TYPE}).to_dict() == GLiClassRanker().to_dict()


def test_yaml_with_an_unknown_setting_is_refused_by_its_name():
    text = saved(GLiClassRanker()).replace("top_k: null", "topk: null")
    with pytest.raises(DeserializationError, match="topk"):
        Pipeline.loads(text)


def test_a_given_reranker_is_saved_as_its_settings_and_its_weights_are_not():
    ranker = GLiClassRanker(reranker=shared_reranker())
    assert ranker.reranker == ranker.to_dict()["init_parameters"]["reranker"] == {"device": "cpu", "backend": "torch"}
    assert "reranker:\n        device: cpu\n" in saved(ranker)


def test_no_device_stays_no_device_after_the_model_is_loaded():
    ranker = GLiClassRanker()
    ranker.warm_up()
    assert ranker.device is None
    assert "device: null" in saved(ranker)


def test_the_given_device_is_the_models():
    ranker = GLiClassRanker(device=ComponentDevice.from_str("cuda:99"))
    with pytest.raises(ConfigError, match="`device` is 'cuda:99'"):
        ranker.warm_up()


def test_from_dict_leaves_what_it_is_given_unchanged():
    data = GLiClassRanker(device=ComponentDevice.from_str("cpu"), examples=[{"text": "x", "labels": ["y"]}]).to_dict()
    before = copy.deepcopy(data)
    GLiClassRanker.from_dict(data)
    assert data == before


def test_what_is_saved_is_the_callers_to_change():
    ranker = GLiClassRanker(
        reranker={"device": "cpu"}, meta_fields_to_embed=["title"], examples=[{"text": "x", "true_labels": ["y"]}]
    )
    before = copy.deepcopy(ranker.to_dict())
    parameters = ranker.to_dict()["init_parameters"]
    parameters["reranker"]["device"] = "cuda"
    parameters["meta_fields_to_embed"].append("x")
    parameters["examples"][0]["true_labels"].append("x")
    assert ranker.to_dict() == before


def test_lists_given_to_the_constructor_are_the_callers_to_change():
    fields, examples, reranker = ["title"], [{"text": "x", "true_labels": ["y"]}], {"device": "cpu"}
    ranker = GLiClassRanker(reranker=reranker, meta_fields_to_embed=fields, examples=examples)
    before = ranker.to_dict()
    fields.append("author")
    examples.append({"text": "y"})
    reranker["device"] = "cuda"
    assert ranker.to_dict() == before


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda ranker: pickle.loads(pickle.dumps(ranker))])
@pytest.mark.parametrize("is_warm", [False, True])
def test_copies_and_pickles_rank_as_before(again, is_warm):
    ranker = GLiClassRanker(device=ComponentDevice.from_str("cpu"), top_k=3, examples=[{"text": "x", "labels": ["y"]}])
    if is_warm:
        ranker.warm_up()
    twin = again(ranker)
    assert twin.to_dict() == ranker.to_dict()
    assert summary(twin) == summary(ranker)


def test_a_pickle_holds_no_weights():
    ranker = GLiClassRanker(reranker=shared_reranker())
    summary(ranker)
    assert len(pickle.dumps(ranker)) < 20_000


def test_a_setting_is_not_changed_afterwards_because_it_would_be_saved_and_not_used():
    ranker = GLiClassRanker()
    with pytest.raises(AttributeError, match="`top_k` is fixed"):
        ranker.top_k = 3
    ranker.note = "anything else is the owner's"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "cpu"}, "`device` must be a `ComponentDevice` or None, got 'cpu'; `ComponentDevice.from_str`"),
        (
            {"device": ComponentDevice.from_multiple(DeviceMap({"a": Device.cpu(), "b": Device.gpu(0)}))},
            r"`device` must be a single device, got \{'a': 'cpu', 'b': 'cuda:0'\}",
        ),
        ({"top_k": 0}, "`top_k` must be .*, got 0"),
        ({"score_threshold": 1.5}, "`score_threshold` must be between 0 and 1, got 1.5"),
        ({"fusion": "mean"}, "`fusion` must be one of"),
        ({"on_error": "ignore"}, "`on_error` must be one of"),
        ({"examples": {"text": "x"}}, "`examples` must be a list of examples"),
        ({"examples": [3]}, "an example must be an `Example` or a mapping, got 3"),
        ({"meta_fields_to_embed": "title"}, "`meta_fields_to_embed` must be a list of names, got 'title'"),
        ({"meta_fields_to_embed": [1]}, r"`meta_fields_to_embed` must be a list of names, got \[1\]"),
        ({"meta_fields_to_embed": 1}, "`meta_fields_to_embed` must be a list of names, got 1"),
        ({"embedding_separator": None}, "`embedding_separator` must be a string, got None"),
        ({"reranker": {"max_length": 3}}, "`max_length`"),
        ({"reranker": "a name"}, "`reranker` must be a `Reranker` or its settings, got 'a name'"),
        (
            {"reranker": {"device": "cpu"}, "device": ComponentDevice.from_str("cpu")},
            "`reranker` or `device`, not both",
        ),
    ],
)
def test_a_wrong_setting_is_refused_at_once(settings, message):
    with pytest.raises(ConfigError, match=message):
        GLiClassRanker(**settings)
    assert issubclass(ConfigError, ValueError)


def test_a_setting_by_position_is_refused():
    with pytest.raises(TypeError, match="positional"):
        GLiClassRanker("some/model")
