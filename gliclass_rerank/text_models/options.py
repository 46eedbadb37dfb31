"""Runtime options of teachers and encoders, common to all kinds and runtimes."""

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
    """Settings of a teacher or encoder.

    Attributes:
        kind: Kind of model; None detects it if possible.
        max_tokens: Longest sequence (query with passage, or text alone); longer ones are truncated.
        batch_tokens: Tokens per forward pass, padding included; None for 2,048 on a CPU, else 65,536.
        threads: Threads per forward pass; None for the runtime's default. Process-wide for torch models.
        device: Torch device; None for the best available. ONNX models run on the CPU.
        query_prefix: Prefix of every query, as in training. The name of a vocabulary token (such as ColBERT's
            `[unused0]`) becomes that token.
        passage_prefix: Prefix of every passage.
        pooling: Pooling of an ONNX encoder; None reads `1_Pooling/config.json`, else takes the mean.
        dtype: Precision of a torch sentence encoder; None for float32.
        query_tokens: Minimum query length under late interaction, reached with unattended `[MASK]` tokens that match
            passage tokens too; 0 for none.
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
        """Tokens per forward pass."""
        if self.batch_tokens is not None:
            return self.batch_tokens
        return default_batch_tokens(on_cpu=self.device in {None, "cpu"})

    def prefix(self, role: str) -> str:
        """Prefix of texts of this role."""
        return self.query_prefix if role == "query" else self.passage_prefix

    def described(self) -> Mapping[str, Any]:
        """Settings that affect scores, as JSON values."""
        fields = asdict(self)
        del fields["threads"]
        return fields
