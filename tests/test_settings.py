import dataclasses
import inspect

import pytest

from gliclass_rerank import ConfigError, Reranker, RerankStage
from gliclass_rerank.settings import ModelSettings, RerankerSettings, taking
from gliclass_rerank.stage.stage import StageSettings


class Taker:
    @taking(RerankerSettings)
    def __init__(self, settings):
        self.given = settings


def test_fields_are_keyword_arguments_and_the_model_comes_first():
    assert Taker("folder", device="cpu", passage_cache="cache").given == RerankerSettings(
        "folder", device="cpu", passage_cache="cache"
    )
    with pytest.raises(TypeError):
        Taker("folder", "cpu")


def test_editors_see_names_and_defaults():
    parameters = inspect.signature(Reranker).parameters

    assert next(iter(parameters)) == "model"
    assert parameters["num_examples"].default == 3
    assert parameters["threads"].kind is inspect.Parameter.KEYWORD_ONLY
    assert set(parameters) <= set(inspect.signature(RerankStage).parameters)


@pytest.mark.parametrize(
    ("old", "new", "value"),
    [
        ("allow_equal_queries", "allow_same_text", False),
        ("allow_equal_texts", "allow_same_text", False),
        ("example_similarity", "min_example_similarity", 0.7),
    ],
)
def test_former_names_work_and_say_so(old, new, value):
    with pytest.warns(DeprecationWarning, match=f"`{old}` is called `{new}` now"):
        assert getattr(Taker(**{old: value}).given, new) == value


def test_a_misspelt_setting_names_the_nearest_one():
    with pytest.raises(TypeError, match=r"^Taker\(\) has no setting 'devise'; did you mean `device`\?$"):
        Taker(devise="cpu")
    with pytest.raises(TypeError, match=r"^Taker\(\) has no setting 'xyz'$"):
        Taker(xyz=1)


def test_only_what_differs_from_the_defaults_is_written_down():
    settings = RerankerSettings("folder", num_examples=3, threads=2)

    assert settings.to_dict() == {"model": "folder", "threads": 2}
    assert RerankerSettings(**settings.to_dict()) == settings


def test_a_store_that_is_an_object_cannot_be_written_down():
    with pytest.raises(ConfigError, match="an `example_store` that is an object cannot be pickled"):
        RerankerSettings(example_store=object()).to_dict()


@pytest.mark.parametrize("kind", [ModelSettings, RerankerSettings, StageSettings])
def test_every_field_says_what_it_is(kind):
    source = inspect.getsource(kind)
    own = [field.name for field in dataclasses.fields(kind) if field.name in kind.__annotations__]

    for name in own:
        assert f"    {name}: " in source
        assert source.partition(f"    {name}: ")[2].partition("\n")[2].lstrip().startswith('"""')
