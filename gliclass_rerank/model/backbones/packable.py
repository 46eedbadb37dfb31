"""Block runner whose token-wise work runs on packed tokens too."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from gliclass_rerank.model.backbones.runner import BlockRunner


class PackableRunner(BlockRunner):
    """Layers of a backbone that runs packed (`packed.py`), besides in blocks."""

    def prepare_packed(self) -> None:
        """Make ready for packed tokens, once the weights are in their place and precision."""

    def packed_tables(self, states: Tensor, positions: Tensor) -> Any:  # noqa: ARG002 - for relative positions
        """Tensors of the positions that all layers share, for `project_packed`."""
        return None

    def compile_packed(self, backend: str = "inductor") -> None:
        """Compile the token-wise work on packed tokens with `torch.compile`, once for any number of tokens.

        Args:
            backend: Compiler.
        """
        for name in ("project_packed", "finish"):
            setattr(self, name, torch.compile(getattr(self, name), backend=backend, dynamic=True, fullgraph=True))

    @abstractmethod
    def project_packed(
        self, layer: Any, states: Tensor, index: Tensor | None, tables: Any
    ) -> tuple[Tensor, Tensor]:  # Any: from `packed_tables`
        """Queries, keys and values of packed tokens.

        Args:
            layer: Transformer layer.
            states: FloatTensor [num_tokens, hidden].
            index: IntTensor [num_rows]. Attending tokens; None for all.
            tables: Result of `packed_tables`.

        Returns:
            FloatTensor [num_rows, num_heads, head_dim] and [num_tokens, 2, num_heads, head_dim].
        """


def packable(runner: BlockRunner) -> PackableRunner:
    """Runner of a backbone that was chosen to run packed (`runtime/attention.py`)."""
    assert isinstance(runner, PackableRunner), "chosen by the kind of backbone"
    return runner
