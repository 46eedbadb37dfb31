"""Conformance suite for framework adapters; needs pytest.

Subclass `AdapterConformance` under a name that starts with `Test`, and implement the hooks.
"""

from __future__ import annotations

import asyncio
import copy
import pickle
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import cache
from inspect import Parameter, signature
from typing import Any, ClassVar, Final

import pytest

from gliclass_rerank.errors import GLiClassRerankError
from gliclass_rerank.reranker import Reranker
from gliclass_rerank.settings import RerankerSettings
from gliclass_rerank.stage.stage import StageSettings

# Any stands for the framework's own classes throughout.
Document = Any
Adapter = Any

QUERY: Final = "how do I stop my bicycle chain from slipping?"
# 0 and 6 are equal, 4 is blank, relevant ones come late, and 8 exceeds a window of 64 tokens.
PASSAGES: Final = (
    "Tyres lose a little air every week; pump them before each long ride.",
    "The library opens at nine on weekdays and closes at noon on Saturdays.",
    "A worn chain jumps over the teeth of the sprockets when you push hard on the pedals.",
    "Saddle height is right when the knee stays slightly bent at the lowest point.",
    "   ",
    "Chain slip often comes from a cassette that is as worn as the chain: replace both together.",
    "Tyres lose a little air every week; pump them before each long ride.",
    "Bread dough rises faster in a warm kitchen.",
    "Clean the chain before you oil it. " + "Wipe every link with a dry cloth and look for stiff ones. " * 12,
)
RETRIEVAL_SCORES: Final = (9.0, 8.5, 8.0, 7.5, 7.0, 6.5, 6.0, 5.5, 5.0)
METADATA: Final = {"source": "handbook", "nested": {"tags": ["bicycle", "care"]}}
_OTHER_VALUES: Final = {"int": 7, "float": 0.25, "bool": False, "LongQuery": "error", "LongPassages": "cut"}
_MISSING_MODEL: Final = "./no-such-folder/no-such-model"
# One of each setting of a `Reranker`, none of which is the default.
_OTHER_SETTINGS: Final = {
    each.name: not each.default if each.type == "bool" else _OTHER_VALUES.get(str(each.type).partition(" ")[0], "torch")
    for each in fields(RerankerSettings)
} | {"device": "cpu"}


@pytest.fixture(scope="session", autouse=True)
def only_torch() -> Iterator[None]:
    """Hide quicker backends and precisions, so that models without a `backend` run on torch in float32.

    Import it in a `conftest.py`.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_installed", "has_native_bfloat16", "has_native_int8"):
            patch.setattr(f"gliclass_rerank.runtime.resolve.{name}", lambda *_: False)
        yield


@cache
def shared_reranker() -> Reranker:
    """Bundled model on the CPU, in torch, loaded once per process."""
    return Reranker(device="cpu", backend="torch")


class AdapterConformance(ABC):
    """Promises of an adapter, one per `test_` method.

    Attributes:
        cutoff: The framework's name for the number of documents to return.
    """

    cutoff: ClassVar[str] = "top_n"

    @abstractmethod
    def build(self, **settings: object) -> Adapter:
        """Build an adapter; the settings are `RerankStage`'s, but for the cut-off's name."""

    @abstractmethod
    def documents(
        self, passages: Sequence[str], scores: Sequence[float], metadata: Mapping[str, Any]
    ) -> list[Document]:
        """Make the framework's documents.

        Each has the id `"doc-<index>"`, a copy of the metadata, an embedding, and the retrieval score where the adapter
        looks for it.
        """

    @abstractmethod
    def run(self, adapter: Adapter, query: str, documents: list[Document], **overrides: object) -> list[Document]:
        """Rerank; `overrides` are the per-call cut-off and `score_threshold`."""

    @abstractmethod
    async def arun(
        self, adapter: Adapter, query: str, documents: list[Document], **overrides: object
    ) -> list[Document]:
        """`run`, asynchronously."""

    @abstractmethod
    def identity(self, document: Document) -> str:
        """Id of the document."""

    @abstractmethod
    def score(self, document: Document) -> float | None:
        """Score attached by the adapter."""

    @abstractmethod
    def metadata(self, document: Document) -> Mapping[str, Any]:
        """Metadata of the document, the adapter's additions included."""

    @abstractmethod
    def content(self, document: Document) -> object:
        """Everything else in a document (text, embedding), as a comparable value."""

    @abstractmethod
    def reload(self, adapter: Adapter) -> Adapter:
        """Serialise the adapter the framework's way and load it again."""

    def parameters(self) -> Mapping[str, Parameter]:
        """Parameters of the constructor, read from its signature; a metaclass has another one."""
        return signature(type(self.build())).parameters

    def setting(self, adapter: Adapter, name: str) -> object:
        """A setting that the adapter was built with; an attribute of the setting's name unless this says otherwise."""
        return getattr(adapter, name)

    def found(self) -> list[Document]:
        """Retrieved documents in the framework's type."""
        return self.documents(PASSAGES, RETRIEVAL_SCORES, METADATA)

    def ready(self, **settings: object) -> Adapter:
        """An adapter over the shared model."""
        return self.build(reranker=shared_reranker(), **settings)

    def positions(self, documents: Sequence[Document]) -> list[int]:
        """Indices of documents in `found`, by id."""
        return [int(self.identity(document).removeprefix("doc-")) for document in documents]

    def test_order_and_scores_are_the_cores(self) -> None:
        ranked = self.run(self.ready(), QUERY, self.found())
        blank = PASSAGES.index("   ")
        core = [hit for hit in shared_reranker().rank(QUERY, PASSAGES) if hit.index != blank]
        assert self.positions(ranked) == [*(hit.index for hit in core), blank]
        assert [self.score(document) for document in ranked] == [*(hit.score for hit in core), 0.0]

    def test_scores_are_python_floats(self) -> None:
        assert {type(self.score(document)) for document in self.run(self.ready(), QUERY, self.found())} == {float}

    def test_every_document_comes_back_once_also_with_equal_texts(self) -> None:
        ranked = self.run(self.ready(), QUERY, self.found())
        assert sorted(self.positions(ranked)) == list(range(len(PASSAGES)))

    def test_ties_keep_the_retrievers_order(self) -> None:
        found = self.documents(["the same words"] * 4, [4.0, 3.0, 2.0, 1.0], METADATA)
        assert self.positions(self.run(self.ready(), QUERY, found)) == [0, 1, 2, 3]

    def test_text_metadata_and_embedding_are_kept(self) -> None:
        found = self.found()
        for document in self.run(self.ready(), QUERY, found):
            original = found[self.positions([document])[0]]
            assert self.content(document) == self.content(original)
            assert METADATA.items() <= self.metadata(document).items()

    def test_inputs_are_unchanged_byte_for_byte(self) -> None:
        found = self.found()
        before, objects = pickle.dumps(found), [id(document) for document in found]
        ranked = self.run(
            self.ready(fusion="weighted", keep_retrieval_score=True, report_truncation=True), QUERY, found
        )
        self.metadata(ranked[0])["source"] = "changed by the caller"  # type: ignore[index] # a mapping that is a dict
        assert pickle.dumps(found) == before
        assert [id(document) for document in found] == objects

    def test_no_documents_give_no_documents(self) -> None:
        assert self.run(self.ready(), QUERY, []) == []
        assert asyncio.run(self.arun(self.ready(), QUERY, [])) == []

    def test_cut_offs(self) -> None:
        everything = self.positions(self.run(self.ready(), QUERY, self.found()))
        for cut, expected in ((None, everything), (1, everything[:1]), (len(PASSAGES) + 5, everything)):
            adapter = self.ready(**{self.cutoff: cut})
            assert self.positions(self.run(adapter, QUERY, self.found())) == expected

    def test_a_cut_off_of_the_call_wins(self) -> None:
        adapter = self.ready(**{self.cutoff: 1})
        assert len(self.run(adapter, QUERY, self.found(), **{self.cutoff: 3})) == 3
        assert len(self.run(adapter, QUERY, self.found())) == 1

    def test_a_cut_off_below_one_is_refused(self) -> None:
        with pytest.raises(ValueError, match="0"):
            self.run(self.ready(**{self.cutoff: 0}), QUERY, self.found())
        with pytest.raises(ValueError, match="0"):
            self.run(self.ready(), QUERY, self.found(), **{self.cutoff: 0})

    def test_a_threshold_keeps_what_reaches_it_and_comes_before_the_cut_off(self) -> None:
        third = [self.score(document) for document in self.run(self.ready(), QUERY, self.found())][2]
        for adapter, overrides in (
            (self.ready(score_threshold=third), {}),
            (self.ready(), {"score_threshold": third}),
            (self.ready(score_threshold=third, **{self.cutoff: 5}), {}),
        ):
            assert len(self.run(adapter, QUERY, self.found(), **overrides)) == 3

    def test_async_equals_sync(self) -> None:
        adapter = self.ready(**{self.cutoff: 4})
        ranked = self.run(adapter, QUERY, self.found())
        assert self._summary(asyncio.run(self.arun(adapter, QUERY, self.found()))) == self._summary(ranked)

    def test_the_event_loop_goes_on_while_a_model_loads_and_ranks(self) -> None:
        async def turns_meanwhile() -> int:
            turns = 0
            task = asyncio.ensure_future(self.arun(self.build(device="cpu", backend="torch"), QUERY, self.found()))
            while not task.done():
                turns += 1
                await asyncio.sleep(0.001)
            await task
            return turns

        # Loading alone takes some hundred turns; a loop blocked by the model gets one or two.
        assert asyncio.run(turns_meanwhile()) > 10

    def test_sixteen_threads_get_what_one_gets(self) -> None:
        adapter = self.ready()
        expected = self._summary(self.run(adapter, QUERY, self.found()))
        with ThreadPoolExecutor(16) as threads:
            rankings = list(threads.map(lambda _: self.run(adapter, QUERY, self.found()), range(32)))
        assert all(self._summary(ranked) == expected for ranked in rankings)

    def test_a_serialised_adapter_ranks_as_before(self) -> None:
        adapter = self.build(
            device="cpu",
            backend="torch",
            query_prefix="question: ",
            passage_prefix="passage: ",
            fusion="reciprocal_rank",
            examples=[{"text": "loose spokes", "true_labels": ["Tighten each spoke."], "false_labels": ["Buy bread."]}],
            keep_retrieval_score=True,
            **{self.cutoff: 4},
        )
        expected = self._summary(self.run(adapter, QUERY, self.found()))
        assert self._summary(self.run(self.reload(adapter), QUERY, self.found())) == expected

    def test_a_given_reranker_is_serialised_as_its_settings(self) -> None:
        reranker = Reranker(device="cpu", backend="torch", max_window_tokens=64, long_passages="cut")
        adapter = self.reload(self.build(reranker=reranker, report_truncation=True))
        assert [
            document
            for document in self.run(adapter, QUERY, self.found())
            if "rerank_tokens_lost" in self.metadata(document)
        ]

    def test_a_given_reranker_excludes_other_model_settings(self) -> None:
        with pytest.raises(ValueError, match="`model`"):
            self.ready(model="somewhere/else")

    def test_prefixes_reach_the_model(self) -> None:
        ranked = self.run(self.ready(query_prefix="bread: ", passage_prefix="about food: "), QUERY, self.found())
        core = shared_reranker().rank(f"bread: {QUERY}", [f"about food: {passage}" for passage in PASSAGES])
        assert self.score(ranked[0]) == core[0].score

    def test_examples_reach_the_model(self) -> None:
        examples = [{"text": "opening hours", "true_labels": [PASSAGES[1]], "false_labels": [PASSAGES[7]]}]
        ranked = self.run(self.ready(examples=examples), QUERY, self.found())
        assert self.score(ranked[0]) == shared_reranker().rank(QUERY, PASSAGES, examples=examples)[0].score

    def test_the_retrieval_score_is_kept_on_request(self) -> None:
        for document in self.run(self.ready(keep_retrieval_score=True), QUERY, self.found()):
            index = self.positions([document])[0]
            assert self.metadata(document)["retrieval_score"] == RETRIEVAL_SCORES[index]
        assert "retrieval_score" not in self.metadata(self.run(self.ready(), QUERY, self.found())[0])

    def test_fusion_with_the_retriever(self) -> None:
        written = [index for index, passage in enumerate(PASSAGES) if passage.strip()]
        for fusion in ("reciprocal_rank", "weighted"):
            ranked = self.run(self.ready(fusion=fusion, fusion_weight=0.0), QUERY, self.found())
            assert self.positions(ranked)[:-1] == written
            assert self.score(ranked[0]) == 1.0
            alone = shared_reranker().rank(QUERY, PASSAGES[:1])[0].score
            # Other batch companions mean other kernels.
            assert self.metadata(ranked[0])["rerank_score"] == pytest.approx(alone, rel=1e-4)

    def test_cut_documents_say_so_on_request(self) -> None:
        reranker = {"device": "cpu", "backend": "torch", "max_window_tokens": 64, "long_passages": "cut"}
        ranked = self.run(self.build(reranker=reranker, report_truncation=True), QUERY, self.found())
        cut = [document for document in ranked if "rerank_tokens_lost" in self.metadata(document)]
        assert self.positions(cut) == [8]
        assert self.metadata(cut[0])["rerank_tokens_lost"] > 0

    def test_a_document_in_chunks_says_which_was_the_best_on_request(self) -> None:
        reranker = {"device": "cpu", "backend": "torch", "max_window_tokens": 64}
        ranked = self.run(self.build(reranker=reranker, report_truncation=True), QUERY, self.found())
        split = [document for document in ranked if "rerank_chunk_end" in self.metadata(document)]
        assert self.positions(split) == [8]
        start, end = (self.metadata(split[0])[f"rerank_chunk_{name}"] for name in ("start", "end"))
        assert 0 <= start < end <= len(PASSAGES[8])

    def test_a_lone_surrogate_is_replaced_and_said_on_request(self) -> None:
        found = self.documents(["a worn chain \ud800", "a warm kitchen"], [2.0, 1.0], METADATA)
        ranked = self.run(self.ready(report_truncation=True), QUERY, found)
        assert self.positions(ranked) == [0, 1]
        assert ["rerank_repaired" in self.metadata(document) for document in ranked] == [True, False]

    def test_a_failure_is_raised_by_default(self) -> None:
        with pytest.raises(GLiClassRerankError, match="no-such-model"):
            self.run(self.build(model=_MISSING_MODEL), QUERY, self.found())

    def test_a_failure_keeps_the_order_on_request_and_says_so(self) -> None:
        adapter = self.build(model=_MISSING_MODEL, on_error="keep_order", **{self.cutoff: 3})
        found = self.found()
        for ranked in (self.run(adapter, QUERY, found), asyncio.run(self.arun(adapter, QUERY, found))):
            assert self.positions(ranked) == [0, 1, 2]
            assert all("no-such-model" in self.metadata(document)["rerank_error"] for document in ranked)
            assert [self.score(document) for document in ranked] == [self.score(document) for document in found[:3]]

    def test_every_setting_of_the_stage_is_the_adapters_under_its_name_and_with_its_default(self) -> None:
        ours = {name: parameter.default for name, parameter in self.parameters().items()}
        # The cut-off alone has the framework's name.
        stages = {{"top_k": self.cutoff}.get(each.name, each.name): each.default for each in fields(StageSettings)}
        assert {name: ours.get(name, "missing") for name in stages} == stages

    def test_every_setting_of_the_reranker_reaches_it(self) -> None:
        for name, value in _OTHER_SETTINGS.items():
            with pytest.raises(ValueError, match=f"`reranker` or `{name}`, not both"):
                self.ready(**{name: value})

    def test_every_setting_of_the_reranker_is_serialised(self) -> None:
        adapter = self.build(**_OTHER_SETTINGS)
        kept = {name: self.setting(adapter, name) for name in _OTHER_SETTINGS}
        assert {name: value for name, value in kept.items() if name != "device"} == {
            name: value for name, value in _OTHER_SETTINGS.items() if name != "device"
        }
        for again in (self.reload(adapter), pickle.loads(pickle.dumps(adapter)), copy.deepcopy(adapter)):
            assert {name: self.setting(again, name) for name in _OTHER_SETTINGS} == kept

    def test_former_names_of_the_rerankers_settings_are_read_and_never_written(self) -> None:
        with pytest.warns(DeprecationWarning, match="`example_similarity` is called `min_example_similarity` now"):
            adapter = self.build(reranker={"device": "cpu", "example_similarity": 0.25})
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)
            assert len(self.run(self.reload(adapter), QUERY, self.found())) == len(PASSAGES)

    def test_an_unknown_setting_is_refused(self) -> None:
        with pytest.raises((ValueError, TypeError), match="topn"):
            self.build(topn=3)

    def test_two_adapters_share_one_model(self) -> None:
        first, second = self.ready(**{self.cutoff: 1}), self.ready(**{self.cutoff: 2})
        assert len(self.run(first, QUERY, self.found())) == 1
        assert len(self.run(second, QUERY, self.found())) == 2

    def _summary(self, documents: Sequence[Document]) -> list[tuple[str, float | None, Mapping[str, Any]]]:
        return [(self.identity(document), self.score(document), self.metadata(document)) for document in documents]
