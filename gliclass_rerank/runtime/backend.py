"""The seam between the engine and whatever multiplies matrices: token ids in, logits out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gliclass_rerank.types import Blocks, CachedStates, TokenIds, Window


class Backend(Protocol):
    """Runs forward passes; safe to call from several threads."""

    def logits(
        self,
        batch: Sequence[Window] | Blocks,
        groups: Sequence[Sequence[int]] = (),
        states: CachedStates | None = None,
    ) -> list[list[float]]:
        """Score one batch.

        Args:
            batch: Windows to run in one padded forward pass, or one query with its candidates.
            groups: For `Blocks`, which candidates to run together: positions in `candidate_ids`, each exactly once,
                in the order in which they should run. Ignored for windows.
            states: What is known of some of the groups, which then start at a later layer.

        Returns:
            For windows, the logits of each window's candidates in marker order. For `Blocks`, one list: the logits in
            the order of `candidate_ids`.

        Raises:
            OutOfMemoryError: The batch does not fit the device; a smaller one may.
            BackendError: Anything else.
            SystemExit: The call was cancelled; noticed between two groups.
        """
        ...

    def candidate_states(self, rows: Sequence[TokenIds], layer: int) -> NDArray[np.float32]:
        """States of a uni-encoder's candidates at the input of a layer below which they do not see the query.

        Args:
            rows: Their sequences; at least one.
            layer: The layer.

        Returns:
            FloatArray [num_rows, seq_len, hidden]. What is beyond a row's end means nothing.

        Raises:
            OutOfMemoryError: They do not fit the device; fewer may.
            SystemExit: The call was cancelled.
        """
        ...
