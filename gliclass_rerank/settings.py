"""Settings of models: the only list of them.

`Reranker`, `ZeroShotClassifier`, `RerankStage`, the adapters and the command line take these fields.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, fields
from difflib import get_close_matches
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

from gliclass_rerank.checks import json_settings
from gliclass_rerank.errors import ConfigError, shown

if TYPE_CHECKING:
    import torch

    from gliclass_rerank.examples.source import ExampleSource
    from gliclass_rerank.model.config import AttentionPlan
    from gliclass_rerank.runtime.resolve import BackendName

_Parameters = ParamSpec("_Parameters")
_Settings = TypeVar("_Settings")
_Self = TypeVar("_Self")
_Value = TypeVar("_Value")

# Tokens of one forward pass. On a CPU small batches stay in the cache and need no padding; a GPU wants to be filled.
_CPU_BATCH_TOKENS: Final = 2048
_GPU_BATCH_TOKENS: Final = 65536

# Names of version 0.1, which still work.
_RENAMED: Final = {
    "allow_equal_queries": "allow_same_text",
    "allow_equal_texts": "allow_same_text",
    "example_similarity": "min_example_similarity",
}


@dataclass(frozen=True)
class ModelSettings:
    """Settings that every model takes; None leaves the choice to the checkpoint and the machine."""

    model: str | Path | None = None
    """A checkpoint: a local folder, the name of a bundled model or a hub name; None for the bundled default, which
    needs no network."""
    _: KW_ONLY
    device: str | torch.device | None = None
    """A torch device; None takes cuda, else mps, else cpu."""
    dtype: str | torch.dtype | None = None
    """Precision of the backbone: `"float32"`, `"float16"`, `"bfloat16"`, with the backends onnx and openvino also
    `"int8"`; None takes bfloat16 on cuda devices that have it, else float32."""
    plan: AttentionPlan | None = None
    """`"joint"` or `"shared_query"`; None takes what the checkpoint was trained with. Forcing the other one costs
    quality, because the weights never saw it (docs/decisions/0003-attention-plans.md)."""
    revision: str | None = None
    """Branch, tag or commit of a hub model."""
    max_window_tokens: int | None = None
    """Longest sequence; None takes 1,024, or what the backbone's positions allow, and for passages what the checkpoint
    says (256 for the bundled model). Passages that do not fit are cut and reported, the query never is."""
    max_example_tokens: int | None = None
    """Tokens of the examples of a request at most, markers included; the longest parts are cut first and reported.
    None leaves them all that the query does not need."""
    batch_tokens: int | None = None
    """Tokens of one forward pass; None takes 2,048 on the CPU and 65,536 elsewhere."""
    backend: BackendName | None = None
    """Runs the transformer layers: `"torch"`, `"onnx"`, `"openvino"` or `"auto"`, the quickest one here that was
    measured to keep the order; None takes torch. onnx and openvino run BERT, DeBERTa-v2/v3 and ModernBERT backbones on
    the CPU, from an export that is made at the first use and kept."""
    threads: int | None = None
    """CPU threads of this instance's forward passes, however many callers there are. None takes torch's number, in each
    calling thread (docs/decisions/0018-threads.md)."""
    example_store: str | Path | ExampleSource | None = None
    """Store of judged examples: the path of an `ExampleStore`, made if it does not exist and filled by the default
    encoder, or any `ExampleSource`. In one process all who name a path share the store."""
    num_examples: int = 3
    """How many examples to show at most."""
    min_example_similarity: float = 0.5
    """The least cosine of an example's text with the query or text, in [-1, 1]."""
    allow_same_text: bool = False
    """Whether an example may have the very text that is asked about, whatever the case and white space. Its judgements
    give the answer away: right when they are to be repeated, wrong when measuring."""

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
        """The fields that differ from their defaults, as JSON values.

        Returns:
            A new dict; the constructor makes an equal of it.

        Raises:
            ConfigError: `example_store` is an object, which can be neither written down nor opened twice.
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
    """Length to which the `joint` plan packs passages; None takes the cheapest for the backbone and the query's
    length."""
    max_example_passages: int | None = None
    """Judged passages shown of one example at most: its first ones, where `feedback` puts the newest. If the checkpoint
    reads irrelevant ones too and there are too many of both, they get half of the places. None takes 4."""
    passage_cache: str | Path | None = None
    """Folder that `precompute` wrote: passages in it start at the layer it was made for, others are computed as ever.
    Needs the checkpoint it was made by and the plan `"shared_query"`."""

    def loading(self) -> dict[str, Any]:  # Any: values of all types
        """Arguments for a `Reranker`: its settings that differ from their defaults, without those of a subclass."""
        values = {each.name: getattr(self, each.name) for each in fields(RerankerSettings)}
        return {each.name: values[each.name] for each in fields(RerankerSettings) if values[each.name] != each.default}


def default_batch_tokens(*, on_cpu: bool) -> int:
    """Tokens of one forward pass, padding included, where nobody says otherwise."""
    return _CPU_BATCH_TOKENS if on_cpu else _GPU_BATCH_TOKENS


def plain_store(store: object) -> str | None:
    """An `example_store` as a JSON value.

    Args:
        store: The argument.

    Returns:
        Its path; None for none.

    Raises:
        ConfigError: It is an object, which can be neither written down nor opened twice.
    """
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
    """Make a constructor take the fields of a settings class, with their types, defaults and former names.

    Args:
        settings: The class.

    Returns:
        A decorator for an `__init__` that takes an instance of it.
    """

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
