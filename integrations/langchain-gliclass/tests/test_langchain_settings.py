"""The adapter as a pydantic model: what it refuses, copies, pickles and dumps."""

import copy
import inspect
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from langchain_gliclass import GLiClassRerank
from pydantic import ValidationError

from gliclass_rerank import Example, Reranker, RerankStage
from gliclass_rerank.testing import QUERY, shared_reranker


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"topn": 3}, "topn"),
        ({"top_n": 0}, "at least 1, got 0"),
        ({"top_n": True}, "top_n"),
        ({"top_n": "3"}, "top_n"),
        ({"score_threshold": 1.5}, "between 0 and 1, got 1.5"),
        ({"fusion": "magic"}, "fusion"),
        ({"fusion_weight": -0.1}, "between 0 and 1, got -0.1"),
        ({"on_error": "ignore"}, "on_error"),
        ({"metadata_keys": "title"}, "metadata_keys"),
        ({"examples": "loose spokes"}, "list of examples"),
        ({"examples": [{"labels": ["Oil it."]}]}, "`text`"),
        ({"reranker": 3}, "must be a `Reranker` or its settings, got 3"),
        ({"reranker": {"modle": "x"}}, "got `modle`"),
        ({"reranker": {"device": "cpu"}, "plan": "joint"}, "not both"),
    ],
)
def test_a_wrong_setting_is_refused_where_it_is_given(settings, message):
    with pytest.raises(ValidationError, match=message):
        GLiClassRerank(**settings)
    with pytest.raises(ValidationError, match=message):
        GLiClassRerank().model_copy(update=settings)


def test_settings_cannot_be_assigned():
    with pytest.raises(ValidationError, match="frozen"):
        GLiClassRerank().top_n = 3


def test_what_the_caller_changes_later_changes_nothing(ready, found):
    examples, settings, keys = [Example("loose spokes", ("Tighten each spoke.",))], {"device": "cpu"}, ["title"]
    reranker = GLiClassRerank(examples=examples, reranker=settings, metadata_keys=keys)
    examples.clear()
    settings["plan"] = "joint"
    keys.clear()
    assert reranker.model_dump(include={"examples", "reranker", "metadata_keys"}) == {
        "examples": [{"text": "loose spokes", "true_labels": ["Tighten each spoke."], "false_labels": []}],
        "reranker": {"device": "cpu"},
        "metadata_keys": ["title"],
    }


def test_a_path_is_kept_as_text():
    folder = Path("some") / "folder"
    assert GLiClassRerank(model=folder).model == str(folder)
    assert GLiClassRerank(reranker={"model": folder}).reranker == {"model": str(folder)}


@pytest.fixture
def loads(monkeypatch):
    """The settings of each `Reranker` that is made from here on."""
    shared_reranker()  # not counted
    made = []
    original = Reranker.__init__

    def counted(self, *args, **kwargs):
        made.append(kwargs)
        original(self, *args, **kwargs)

    monkeypatch.setattr(Reranker, "__init__", counted)
    return made


def test_the_model_is_loaded_at_the_first_use_and_shared_by_copies(found, loads):
    reranker = GLiClassRerank(device="cpu")
    three = reranker.model_copy(update={"top_n": 3})
    everything = three.model_copy(update={"top_n": None})
    copies = [copy.copy(reranker), copy.deepcopy(reranker), reranker.model_copy(deep=True)]
    assert loads == []
    assert len(three.rerank(found, QUERY)) == 3
    assert all(len(other.rerank(found, QUERY)) == 5 for other in (reranker, everything, *copies))
    assert loads == [{"device": "cpu"}]


def test_a_copy_with_another_policy_shares_a_given_model(ready, found, loads):
    prefixed = ready().model_copy(update={"query_prefix": "bread: "})
    assert prefixed.rerank(found, QUERY) == ready(query_prefix="bread: ").rerank(found, QUERY)
    assert prefixed.reranker is shared_reranker()
    assert loads == []


def test_a_copy_of_a_subclass_keeps_what_the_subclass_added(ready, found):
    class Named(GLiClassRerank):
        label: str = ""

    named = Named(reranker=shared_reranker(), label="mine").model_copy(update={"top_n": 1})
    assert (type(named), named.label, len(named.rerank(found, QUERY))) == (Named, "mine", 1)


def test_a_pickle_carries_settings_and_loads_nothing_until_use(ready, found, loads):
    expected = ready(top_n=3).rerank(found, QUERY)
    pickled = pickle.dumps(ready(top_n=3))
    assert len(pickled) < 3000
    reloaded = pickle.loads(pickled)
    assert loads == []
    assert reloaded.rerank(found, QUERY) == expected
    assert reloaded.reranker == {"device": "cpu", "backend": "torch"}


def test_a_dump_is_json_and_gives_the_same_reranker(ready, found):
    reranker = ready(
        top_n=4, metadata_keys=["nested"], examples=[Example("a", ("b",), ("c",))], fusion="reciprocal_rank"
    )
    dumped = reranker.model_dump()
    assert dumped == json.loads(reranker.model_dump_json()) == json.loads(json.dumps(dumped))
    assert GLiClassRerank(**dumped).model_dump() == dumped
    reloaded = GLiClassRerank.model_validate_json(reranker.model_dump_json())
    assert reloaded.model_dump() == dumped
    assert reloaded.rerank(found, QUERY) == reranker.rerank(found, QUERY)


def test_the_settings_are_the_stages_and_what_documents_need():
    stage = {name: parameter.default for name, parameter in inspect.signature(RerankStage).parameters.items()}
    ours = {name: field.default for name, field in GLiClassRerank.model_fields.items()}
    own = ("where", "metadata_keys", "separator", "retrieval_score_key")
    assert [name for name in ours if name not in own] == [{"top_k": "top_n"}.get(name, name) for name in stage]
    assert all(default == ours[{"top_k": "top_n"}.get(name, name)] for name, default in stage.items())
    assert list(GLiClassRerank.model_json_schema()["properties"]) == list(ours)


def test_importing_and_constructing_loads_no_torch():
    code = (
        "import sys; from langchain_gliclass import GLiClassRerank; "
        "GLiClassRerank(top_n=3, reranker={'device': 'cpu'}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
