"""Constructor, copies, later changes, JSON and pickles; importing and building load no model."""

import asyncio
import copy
import json
import pickle
import subprocess
import sys

import pytest
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode
from llama_index.postprocessor.gliclass_rerank import GLiClassRerank

from gliclass_rerank import Example, Reranker
from gliclass_rerank.testing import shared_reranker

_EXAMPLE = {"text": "loose spokes", "true_labels": ["Tighten each spoke."], "false_labels": ["Buy bread."]}
_SETTINGS = {
    "model": "some/where",
    "device": "cpu",
    "dtype": "float32",
    "plan": "joint",
    "revision": "main",
    "max_window_tokens": 64,
    "max_example_tokens": 32,
    "batch_tokens": 512,
    "backend": "onnx",
    "threads": 2,
    "example_store": "some/store.db",
    "num_examples": 5,
    "min_example_similarity": 0.25,
    "allow_same_text": False,
    "window_tokens": 48,
    "long_query": "error",
    "long_passages": "cut",
    "max_example_passages": 2,
    "passage_cache": "some/cache",
    "log": "some/feedback.db",
    "log_texts": False,
    "log_days": 30,
    "reranker": None,
    "top_n": 3,
    "score_threshold": 0.25,
    "min_answerable": 0.125,
    "where": {"tenant": "a"},
    "query_prefix": "question: ",
    "passage_prefix": "passage: ",
    "metadata_mode": "llm",
    "fusion": "weighted",
    "fusion_weight": 0.75,
    "examples": [_EXAMPLE],
    "on_error": "keep_order",
    "keep_retrieval_score": True,
    "report_truncation": True,
}


@pytest.fixture
def no_more_models(monkeypatch):
    """After it is called, loading a model fails."""

    def refused(self, **settings):
        raise AssertionError("a second model was loaded")

    return lambda: monkeypatch.setattr(Reranker, "__init__", refused)


def loads_no_torch(code):
    result = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nassert 'torch' not in sys.modules"],
        capture_output=True,
        text=True,
        check=False,
    )
    return result.returncode == 0, result.stderr


def test_importing_and_building_load_no_torch():
    done, errors = loads_no_torch(
        "from llama_index.postprocessor.gliclass_rerank import GLiClassRerank\n"
        "adapter = GLiClassRerank(model='some/where', top_n=3)\n"
        "GLiClassRerank.from_json(adapter.to_json())"
    )
    assert done, errors


def test_the_parameters_are_the_documented_ones_in_their_order():
    fields = [name for name in GLiClassRerank.model_fields if name != "callback_manager"]
    assert fields == [*_SETTINGS]
    assert all(f"        {name}: " in GLiClassRerank.__doc__ for name in fields)


def test_it_is_a_node_postprocessor():
    assert issubclass(GLiClassRerank, BaseNodePostprocessor)
    assert GLiClassRerank.class_name() == "GLiClassRerank"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"topn": 3}, "topn"),
        ({"top_n": 0}, "at least 1, got 0"),
        ({"score_threshold": 1.5}, r"between 0 and 1, got 1\.5"),
        ({"top_n": True}, "top_n"),
        ({"fusion": "sum"}, "fusion"),
        ({"on_error": "ignore"}, "on_error"),
        ({"device": 0}, "device"),
        ({"examples": "spokes"}, "`examples` must be a list of examples"),
        ({"examples": [{"label": "spokes"}]}, "an example needs the key `text`"),
        ({"reranker": {"modle": "x"}}, "`modle`"),
        ({"reranker": 3}, "must be a `Reranker` or its settings"),
        ({"reranker": {}, "device": "cpu"}, "not both"),
    ],
)
def test_wrong_settings_are_refused_at_once(settings, message):
    with pytest.raises(ValueError, match=message):
        GLiClassRerank(**settings)


def test_everything_survives_json():
    adapter = GLiClassRerank(**_SETTINGS)
    assert json.loads(adapter.to_json()) == {**_SETTINGS, "class_name": "GLiClassRerank"}
    again = GLiClassRerank.from_json(adapter.to_json())
    assert again.to_dict() == adapter.to_dict()
    assert again.metadata_mode is MetadataMode.LLM
    assert again.examples == adapter.examples == (Example.of(_EXAMPLE),)


def test_to_dict_holds_json_values_only_and_from_dict_reads_them():
    adapter = GLiClassRerank(**{**_SETTINGS, "examples": [Example.of(_EXAMPLE)]})
    values = adapter.to_dict()
    assert values == json.loads(json.dumps(values))
    before = copy.deepcopy(values)
    assert GLiClassRerank.from_dict(values).to_dict() == values
    assert values == before
    assert GLiClassRerank.from_dict(values, top_n=1).top_n == 1


def test_inside_a_model_of_the_user():
    class Pipeline(BaseModel):
        reranker: GLiClassRerank

    pipeline = Pipeline(reranker=GLiClassRerank(top_n=3))
    assert Pipeline.model_validate_json(pipeline.model_dump_json()).reranker.top_n == 3


def test_paths_become_text(tmp_path):
    assert GLiClassRerank(model=tmp_path).to_dict()["model"] == str(tmp_path)
    assert GLiClassRerank(reranker={"model": tmp_path}).to_dict()["reranker"] == {"model": str(tmp_path)}


def test_settings_are_the_adapters_own():
    settings, examples = {"device": "cpu"}, [dict(_EXAMPLE)]
    adapter = GLiClassRerank(reranker=settings, examples=examples)
    settings["device"] = "no-such-device"
    examples.append("no example")
    assert adapter.to_dict()["reranker"] == {"device": "cpu"}
    assert adapter.to_dict()["examples"] == [_EXAMPLE]


def test_a_pickle_ranks_as_before_and_carries_no_model(adapter, nodes, query):
    original = adapter(top_n=2, metadata_mode=MetadataMode.LLM)
    pickled = pickle.dumps(original)
    assert len(pickled) < 5000
    again = pickle.loads(pickled)
    assert again.reranker == shared_reranker().settings
    assert again.metadata_mode is MetadataMode.LLM
    assert again.rerank(nodes, query) == original.rerank(nodes, query)


def test_pickling_takes_nothing_away(adapter, nodes, query):
    class Unpicklable(LlamaDebugHandler):
        def __reduce__(self):
            raise TypeError("stays here")

    manager = CallbackManager([Unpicklable(print_trace_on_end=False)])
    original = adapter(callback_manager=manager)
    again = pickle.loads(pickle.dumps(original))
    assert original.callback_manager is manager
    assert original.reranker is shared_reranker()
    assert again.rerank(nodes, query) == original.rerank(nodes, query)


def test_copies_share_the_model(adapter, nodes, query):
    original = adapter(top_n=1)
    for copied in (copy.copy(original), copy.deepcopy(original), original.model_copy()):
        assert copied.reranker is shared_reranker()
        assert copied.rerank(nodes, query) == original.rerank(nodes, query)


def test_a_copy_with_other_limits_honours_them_and_shares_the_model(nodes, query, no_more_models):
    original = GLiClassRerank(device="cpu", top_n=1)
    expected = original.rerank(nodes, query)
    no_more_models()
    everything = original.model_copy(update={"top_n": None})
    assert len(everything.rerank(nodes, query)) == len(nodes)
    assert len(original.model_copy(update={"top_n": 2}).rerank(nodes, query)) == 2
    strict = everything.model_copy(update={"score_threshold": expected[0].score})
    assert strict.rerank(nodes, query) == expected
    assert len(strict.model_copy(update={"score_threshold": None}).rerank(nodes, query)) == len(nodes)
    assert original.rerank(nodes, query) == expected


def test_assigned_settings_count(adapter, nodes, query, core_score):
    postprocessor = adapter()
    postprocessor.top_n = 1
    assert len(postprocessor.rerank(nodes, query)) == 1
    postprocessor.passage_prefix = "about bicycles: "
    postprocessor.keep_retrieval_score = True
    ranked = postprocessor.rerank(nodes, query)[0]
    assert ranked.score == pytest.approx(core_score(f"about bicycles: {nodes[2].node.text}"), rel=1e-4)
    assert ranked.node.metadata == {"retrieval_score": 1.0}
    plain = postprocessor.model_copy(update={"passage_prefix": ""}).rerank(nodes, query)[0]
    assert plain.score == pytest.approx(core_score(nodes[2].node.text), rel=1e-4)


def test_wrong_changes_are_refused(adapter, nodes, query):
    postprocessor = adapter()
    with pytest.raises(ValueError, match="fusion"):
        postprocessor.fusion = "sum"
    for update, message in (
        ({"fusion": "sum"}, "fusion"),
        ({"topn": 3}, "topn"),
        ({"top_n": 0}, "at least 1, got 0"),
        ({"model": "some/where"}, "not both"),
    ):
        with pytest.raises(ValueError, match=message):
            postprocessor.model_copy(update=update)
    postprocessor.top_n = 0
    with pytest.raises(ValueError, match="at least 1, got 0"):
        postprocessor.rerank(nodes, query)


def test_changed_values_are_serialised_like_given_ones(tmp_path):
    changes = {"model": tmp_path, "examples": [_EXAMPLE], "metadata_mode": "none"}
    copied, assigned = GLiClassRerank().model_copy(update=changes), GLiClassRerank()
    for name, value in changes.items():
        setattr(assigned, name, value)
    assert copied.to_json() == assigned.to_json() == GLiClassRerank(**changes).to_json()


def test_limits_of_a_call(adapter, nodes, query):
    postprocessor = adapter(top_n=1)
    ranked = postprocessor.rerank(nodes, query, top_n=3)
    assert len(ranked) == 3
    best = ranked[0].score
    assert asyncio.run(postprocessor.arerank(nodes, query, top_n=3, score_threshold=best)) == ranked[:1]
    assert postprocessor.rerank(tuple(nodes), query, top_n=3) == ranked
