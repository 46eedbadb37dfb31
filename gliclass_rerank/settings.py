"""Settings of models, shared by `Reranker`, `ZeroShotClassifier`, `RerankStage`, the adapters and the command line."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, fields
from difflib import get_close_matches
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Final, Literal, ParamSpec, TypeVar, get_args

from gliclass_rerank.checks import checked_choice, json_settings, of_settings
from gliclass_rerank.errors import ConfigError, shown

if TYPE_CHECKING:
    import torch

    from gliclass_rerank.examples.source import ExampleSource
    from gliclass_rerank.model.config import AttentionPlan
    from gliclass_rerank.runtime.resolve import BackendName

LongQuery = Literal["cut", "error"]
LongPassages = Literal["cut", "best_chunk"]

_Parameters = ParamSpec("_Parameters")
_Settings = TypeVar("_Settings")
_Self = TypeVar("_Self")
_Value = TypeVar("_Value")

# Tokens per forward pass. Small batches stay in a CPU's cache and need little padding; a GPU needs large ones.
_CPU_BATCH_TOKENS: Final = 2048
_GPU_BATCH_TOKENS: Final = 65536
# Of packed sequences, whose kernels are launched once for all of them.
_PACKED_BATCH_TOKENS: Final = 262144

# Names of version 0.1, still accepted.
_RENAMED: Final = {
    "allow_equal_queries": "allow_same_text",
    "allow_equal_texts": "allow_same_text",
    "example_similarity": "min_example_similarity",
}


@dataclass(frozen=True)
class ModelSettings:
    """Settings of every model; None leaves the choice to the checkpoint and the machine."""

    model: str | Path | None = None
    """Local folder, bundled model or hub name; None for the bundled default, which needs no network."""
    _: KW_ONLY
    device: str | torch.device | None = None
    """Torch device; None for cuda, else mps, else cpu."""
    dtype: str | torch.dtype | None = None
    """Precision of the backbone: `"float32"`, `"float16"`, `"bfloat16"`, or `"int8"` on onnx and openvino; None for
    the quickest one that keeps the order if the backend is `"auto"`, else float32, and on cuda devices bfloat16 if
    they compute it, float16 on older ones (T4, V100).
    """
    plan: AttentionPlan | None = None
    """`"joint"` or `"shared_query"`; None for the plan of training. The other one costs quality
    (docs/decisions/0003-attention-plans.md).
    """
    revision: str | None = None
    """Branch, tag or commit of a hub model."""
    max_window_tokens: int | None = None
    """Longest sequence; None for 1,024 or the backbone's limit, and for passages the checkpoint's (256 for the bundled
    model).
    """
    max_example_tokens: int | None = None
    """Token budget of a request's examples, markers included; the longest parts are cut first. None for all the room
    beside the query.
    """
    batch_tokens: int | None = None
    """Tokens per forward pass; None for 2,048 on the CPU, 65,536 elsewhere, and for packed sequences on a GPU up to
    262,144, depending on its memory.
    """
    backend: BackendName | None = None
    """Runtime of the transformer layers: `"auto"` (None), the quickest one installed that was measured to keep the
    order; `"torch"`, `"onnx"` or `"openvino"`. onnx and openvino run BERT, DeBERTa-v2/v3 and ModernBERT on the CPU,
    from an export cached at first use.
    """
    threads: int | None = None
    """CPU threads of this instance, shared by all callers; None for torch's default in each calling thread
    (docs/decisions/0018-threads.md).
    """
    example_store: str | Path | ExampleSource | None = None
    """Path of an `ExampleStore`, created with the default encoder if missing and shared within the process, or any
    `ExampleSource`.
    """
    num_examples: int = 3
    """Maximum number of examples shown; 0 for none, and judgements count all the same."""
    min_example_similarity: float = 0.5
    """Minimum cosine between an example's text and the query or text, in [-1, 1]."""
    allow_same_text: bool = True
    """Let judgements of the query's own text count, regardless of case and white space: passages known to be relevant
    come first, irrelevant ones last. They give the answer away: right for production, wrong for evaluation, which sets
    this to False.
    """

    @staticmethod
    def renamed(given: Mapping[str, _Value]) -> dict[str, _Value]:
        """Settings under their names of today; a former name gives a DeprecationWarning.

        Args:
            given: Values by name; unknown names stay.

        Returns:
            A new dict, in the same order.

        Raises:
            ConfigError: A setting is there under both names.
        """
        return current_names(given, stacklevel=3)

    def to_dict(self) -> dict[str, Any]:  # Any: JSON values of all types
        """Fields that differ from their defaults, as JSON values for the constructor.

        Returns:
            New dict.

        Raises:
            ConfigError: `example_store` is an object, which cannot be serialised.
        """
        plain_store(self.example_store)
        return json_settings(
            {each.name: value for each in fields(self) if (value := getattr(self, each.name)) != each.default}
        )


@dataclass(frozen=True)
class RerankerSettings(ModelSettings):
    """Settings of a `Reranker`."""

    _: KW_ONLY
    window_tokens: int | None = None
    """Target length of windows under the `joint` plan; None for the cheapest one for backbone and query."""
    long_query: LongQuery = "cut"
    """Queries that do not fit: `"cut"` cuts the middle, which is reported, and leaves passages a quarter of a window;
    `"error"` raises a `WindowOverflowError`.
    """
    long_passages: LongPassages = "best_chunk"
    """Passages that do not fit: `"best_chunk"` splits them at sentence ends, with overlap, and takes the best chunk's
    score; `"cut"` cuts the end, which is reported.
    """
    max_example_passages: int | None = None
    """Maximum judged passages shown per example, newest first, and half of them irrelevant ones if the checkpoint reads
    these and both kinds exceed the limit. None for 4.
    """
    passage_cache: str | Path | None = None
    """Folder written by `precompute` with the same checkpoint; uncached passages are computed as usual. Needs the plan
    `"shared_query"`.
    """
    log: str | Path | None = None
    """Path of a feedback log of what was shown, created if missing; None for none."""
    log_texts: bool = True
    """Keep queries and passages in the log; else the ids of documents only, and digests."""
    log_days: int | None = None
    """Days after which entries of the log are forgotten; None to keep them."""

    def __post_init__(self) -> None:
        with of_settings():
            checked_choice("long_query", self.long_query, get_args(LongQuery))
            checked_choice("long_passages", self.long_passages, get_args(LongPassages))

    def loading(self) -> dict[str, Any]:  # Any: values of all types
        """Arguments for a `Reranker`: its settings that differ from their defaults, without those of a subclass."""
        values = {each.name: (getattr(self, each.name), each.default) for each in fields(RerankerSettings)}
        return {name: value for name, (value, default) in values.items() if _differs(value, default)}


def _differs(value: object, default: object) -> bool:
    # An array has no truth value, and anything may stand in place of a setting.
    return type(value) is not type(default) or value != default


def default_batch_tokens(*, on_cpu: bool, is_packed: bool = False) -> int:
    """Default tokens per forward pass, padding included; packed ones on a device with enough memory."""
    return _PACKED_BATCH_TOKENS if is_packed else _CPU_BATCH_TOKENS if on_cpu else _GPU_BATCH_TOKENS


def plain_store(store: object) -> str | None:
    """`example_store` as a JSON value, its path; a `ConfigError` if it is an object, which cannot be serialised."""
    if store is None or isinstance(store, (str, Path)):
        return None if store is None else str(store)
    raise ConfigError(
        f"an `example_store` that is an object cannot be pickled or written into settings; give the store's path "
        f"in its place, got {shown(store)}"
    )


def current_names(given: Mapping[str, _Value], *, stacklevel: int) -> dict[str, _Value]:
    """See `ModelSettings.renamed`; `stacklevel` is that of `warnings.warn`, in which 2 is the caller of this."""
    for old in given:
        if (new := _RENAMED.get(old)) is None:
            continue
        if new in given:
            raise ConfigError(f"`{old}` is called `{new}` now; pass one of them, got both")
        warnings.warn(f"`{old}` is called `{new}` now", DeprecationWarning, stacklevel=stacklevel)
    return {_RENAMED.get(name, name): value for name, value in given.items()}


def taking(
    settings: Callable[_Parameters, _Settings],
) -> Callable[[Callable[[_Self, _Settings], None]], Callable[Concatenate[_Self, _Parameters], None]]:
    """Make an `__init__` that takes a settings instance accept its fields, types, defaults and former names."""

    def decorated(init: Callable[[_Self, _Settings], None]) -> Callable[Concatenate[_Self, _Parameters], None]:
        def __init__(self: _Self, /, *args: _Parameters.args, **kwargs: _Parameters.kwargs) -> None:  # noqa: N807
            named = current_names(kwargs, stacklevel=3)
            for unknown in named.keys() - known:
                near = get_close_matches(unknown, known, n=1)
                hint = f"; did you mean `{near[0]}`?" if near else ""
                raise TypeError(f"{type(self).__name__}() has no setting {shown(unknown)}{hint}")
            init(self, settings(*args, **named))  # type: ignore[arg-type] # the same values

        update_wrapper(__init__, init)
        parameters = list(inspect.signature(settings).parameters.values())
        known = {parameter.name for parameter in parameters}
        of_self = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        __init__.__signature__ = inspect.Signature([of_self, *parameters])  # type: ignore[attr-defined]
        return __init__

    return decorated
