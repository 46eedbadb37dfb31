"""How a model is loaded and run; the same settings for every kind and runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, get_args

from gliclass_rerank.errors import ConfigError, listed, shown
from gliclass_rerank.settings import default_batch_tokens

Kind = Literal["cross-encoder", "late-interaction", "encoder", "gliclass"]
Pooling = Literal["mean", "cls"]
Dtype = Literal["float32", "bfloat16"]

KINDS: Final = get_args(Kind)
_POOLINGS: Final = get_args(Pooling)
_DTYPES: Final = get_args(Dtype)


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Settings of a teacher or an encoder.

    Attributes:
        kind: What the model is; None finds out from its folder, where that is possible.
        max_tokens: Longest sequence (a query with a passage, or a text alone); what is longer is cut.
        batch_tokens: Tokens of one forward pass, padding included; None for 2,048 on a CPU, else 65,536.
        threads: Threads of one forward pass; None leaves it to the runtime. For models that torch runs, this is a
            setting of the whole process.
        device: A torch device; None for the best there is. ONNX models run on the CPU.
        query_prefix: Written before every query, as the model was trained. A prefix that is the name of a token of
            the vocabulary (as ColBERT's `[unused0]`) becomes that token.
        passage_prefix: Written before every passage.
        pooling: How an ONNX encoder makes a vector of its tokens; None reads the folder's `1_Pooling/config.json` and
            takes the mean if there is none.
        dtype: Of the weights and states of a sentence encoder that torch runs; None for float32.
        query_tokens: Late interaction fills shorter queries up to so many tokens with `[MASK]`, which nothing attends
            to and which look for passage tokens of their own; 0 fills none.
    """

    kind: Kind | None = None
    max_tokens: int = 256
    batch_tokens: int | None = None
    threads: int | None = None
    device: str | None = None
    query_prefix: str = ""
    passage_prefix: str = ""
    pooling: Pooling | None = None
    dtype: Dtype | None = None
    query_tokens: int = 0

    def __post_init__(self) -> None:
        for name, choices in (("kind", KINDS), ("pooling", _POOLINGS), ("dtype", _DTYPES)):
            value = getattr(self, name)
            if value is not None and value not in choices:
                raise ConfigError(f"`{name}` must be one of {listed(choices)}, got {shown(value)}")
        for name in ("max_tokens", "batch_tokens", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"`{name}` must be at least 1, got {value}")
        if not 0 <= self.query_tokens <= self.max_tokens:
            raise ConfigError(
                f"`query_tokens` must be between 0 and `max_tokens` ({self.max_tokens}), got {self.query_tokens}"
            )

    @property
    def batch_budget(self) -> int:
        """Tokens of one forward pass."""
        if self.batch_tokens is not None:
            return self.batch_tokens
        return default_batch_tokens(on_cpu=self.device in {None, "cpu"})

    def prefix(self, role: str) -> str:
        """What is written before a text of this role."""
        return self.query_prefix if role == "query" else self.passage_prefix

    def described(self) -> Mapping[str, Any]:
        """The settings that scores depend on, as JSON values."""
        fields = asdict(self)
        del fields["threads"]
        return fields
