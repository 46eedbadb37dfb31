"""Pool of records that can serve as examples: informative ones, each text once."""

from __future__ import annotations

from array import array

from gliclass_rerank.errors import DataError
from gliclass_rerank.examples.text_identity import text_digest
from gliclass_rerank.learn.data.labelled import Labelled
from gliclass_rerank.learn.training.examples import judgement
from gliclass_rerank.learn.training.record_file import RecordFile
from gliclass_rerank.learn.training.source_config import Unjudged


class ExamplePool:
    """Records by row, from 0; of equal texts (up to case and white space) the first.

    A text's own record is thus found at most once, and no example repeats. Texts are kept as digests, so a file may
    exceed
    memory.

    Args:
        records: Records.
        unjudged: Treatment of ungraded passages.

    Raises:
        DataError: Nothing is known about any record.
    """

    def __init__(self, records: RecordFile[Labelled], unjudged: Unjudged) -> None:
        self._records = records
        self._positions = array("Q")
        self._rows: dict[bytes, int] = {}
        for position in range(len(records)):
            labelled = records[position]
            key = text_digest(labelled.text)
            if key not in self._rows and any(judgement(labelled.record, unjudged)):
                self._rows[key] = len(self._positions)
                self._positions.append(position)
        if not self._positions:
            raise DataError(f"{records.path}: no record says what is relevant or irrelevant, so none is an example")

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, row: int) -> Labelled:
        return self._records[self._positions[row]]

    def texts(self, start: int, end: int) -> list[str]:
        """Texts of a range of rows."""
        return [self[row].text for row in range(start, min(end, len(self)))]

    def row_of(self, text: str) -> int | None:
        """Row of a text, or None."""
        return self._rows.get(text_digest(text))
