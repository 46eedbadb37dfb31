"""The file format of a passage cache: states of passages at the input of one layer, found by the passages' token ids.

```
<folder>/meta.json    format, layer, digest, dtype, width, num_passages, num_tokens
         keys.npy     bytes [num_passages, 16], ascending: digest of the token ids
         offsets.npy  int64 [num_passages]: first record of each; a passage has as many as it has tokens
         states.bin   num_tokens records: float16 [width], or a float32 scale and int8 [width]
```

The folder appears complete or not at all and is never changed. Files are mapped into memory, so that opening reads
almost nothing and processes share what they read. Content is trusted once the sizes fit: a checksum of gigabytes would
have to be read at every start.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from gliclass_rerank.errors import BackendError, ConfigError, DataError, listed, shown
from gliclass_rerank.files.atomic_write import atomic_folder
from gliclass_rerank.types import TokenIds

StatesDtype = Literal["float16", "int8"]
FloatArray = NDArray[np.float32]

_FORMAT: Final = 1
_META, _KEYS, _OFFSETS, _STATES = "meta.json", "keys.npy", "offsets.npy", "states.bin"
_KEY_BYTES: Final = 16
_KEY_DTYPE: Final = np.dtype(f"S{_KEY_BYTES}")
_LEVELS: Final = 127
# Of a layer's number or width; beyond every network, and within what numpy can describe.
_LARGEST: Final = 1 << 20
_DTYPES: Final = get_args(StatesDtype)


@dataclass(frozen=True, kw_only=True)
class CacheMeta:
    """What a passage cache holds.

    Attributes:
        layer: The layer whose input it is.
        digest: Of all that the states depend on beside the token ids.
        dtype: How they are kept.
        width: Size of a token's state.
        num_passages: Distinct passages.
        num_tokens: Tokens of all passages, markers included.
    """

    layer: int
    digest: str
    dtype: StatesDtype
    width: int
    num_passages: int
    num_tokens: int


class PassageCacheWriter:
    """Writes states one passage after the other.

    Args:
        handle: Where the records go.
        dtype: How states are kept.
        width: Size of a token's state.
    """

    def __init__(self, handle: BinaryIO, dtype: StatesDtype, width: int) -> None:
        self._handle = handle
        self._record = _record(dtype, width)
        self._offsets: dict[bytes, int] = {}
        self.num_tokens = 0

    @property
    def num_passages(self) -> int:
        """Passages written so far."""
        return len(self._offsets)

    def __contains__(self, token_ids: TokenIds) -> bool:
        return _key(token_ids) in self._offsets

    def add(self, token_ids: TokenIds, states: FloatArray) -> None:
        """Write a passage that is not there yet.

        Args:
            token_ids: The passage's sequence.
            states: FloatArray [num_tokens, width].

        Raises:
            BackendError: The states are not finite, or too large for half precision.
        """
        assert states.shape == (len(token_ids), *self._record["values"].shape), "one state a token"
        self._handle.write(_encoded(states, self._record).tobytes())
        self._offsets[_key(token_ids)] = self.num_tokens
        self.num_tokens += len(token_ids)

    def index(self) -> tuple[NDArray[np.bytes_], NDArray[np.int64]]:
        """Keys, ascending, and the first record of each."""
        keys = np.frombuffer(b"".join(self._offsets), dtype=_KEY_DTYPE)
        order = np.argsort(keys)
        return keys[order], np.fromiter(self._offsets.values(), dtype=np.int64, count=len(keys))[order]


@contextmanager
def write_passage_cache(
    folder: Path, *, layer: int, digest: str, dtype: StatesDtype, width: int
) -> Iterator[PassageCacheWriter]:
    """Write a passage cache; the folder is there when the block is left without an error.

    Args:
        folder: Must not exist yet.
        layer: As in `CacheMeta`, as are the rest.
        digest: Of what the states depend on.
        dtype: How they are kept.
        width: Size of a token's state.

    Yields:
        What to give the passages to; at least one.

    Raises:
        ConfigError: An unknown `dtype`.
        DataError: The folder exists, or no passage was given.
    """
    if dtype not in _DTYPES:
        raise ConfigError(f"a passage cache is kept in {listed(_DTYPES)}, got {shown(dtype)}")
    if folder.exists():
        raise DataError(f"`{folder}` exists already; a passage cache is never overwritten")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder) as staging:
        with (staging / _STATES).open("wb") as handle:
            writer = PassageCacheWriter(handle, dtype, width)
            yield writer
        if not writer.num_passages:
            raise DataError(f"a passage cache must hold a passage, got none for `{folder}`")
        keys, offsets = writer.index()
        np.save(staging / _KEYS, keys)
        np.save(staging / _OFFSETS, offsets)
        meta = CacheMeta(
            layer=layer,
            digest=digest,
            dtype=dtype,
            width=width,
            num_passages=writer.num_passages,
            num_tokens=writer.num_tokens,
        )
        text = json.dumps({"format": _FORMAT, **asdict(meta)}, indent=2)
        (staging / _META).write_text(text + "\n", encoding="utf-8")


class PassageCache:
    """Finds states of known passages; safe to share between threads.

    Args:
        folder: What `write_passage_cache` wrote.

    Attributes:
        folder: Where it lies.
        meta: What it holds.
        layer: The layer whose input it holds.

    Raises:
        DataError: There is no cache, or one of another format, or a part of it is missing or cut short.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meta = _read_meta(folder)
        self.layer = self.meta.layer
        record = _record(self.meta.dtype, self.meta.width)
        self._keys = _mapped(folder / _KEYS, _KEY_DTYPE, self.meta.num_passages)
        self._offsets = _mapped(folder / _OFFSETS, np.dtype(np.int64), self.meta.num_passages)
        path = folder / _STATES
        wanted, found = self.meta.num_tokens * record.itemsize, path.stat().st_size if path.is_file() else 0
        if found != wanted:
            raise DataError(f"the passage cache `{folder}` is broken: {_STATES} must have {wanted} bytes, got {found}")
        self._records = np.asarray(np.memmap(path, dtype=record, mode="r"))

    def find(self, rows: Sequence[TokenIds]) -> dict[int, int]:
        """Look passages up.

        Args:
            rows: Sequences of passages; at least one.

        Returns:
            For those that are known, by their position in `rows`: the first record.
        """
        wanted = np.frombuffer(b"".join(map(_key, rows)), dtype=_KEY_DTYPE)
        places = np.searchsorted(self._keys, wanted).clip(max=len(self._keys) - 1)
        is_known = self._keys[places] == wanted
        return {int(row): int(self._offsets[places[row]]) for row in np.flatnonzero(is_known)}

    def states(self, passages: Sequence[tuple[int, int]]) -> NDArray[Any]:  # Any: half or single precision
        """Read states of passages.

        Args:
            passages: First record, as `find` gives it, and number of tokens of each; at least one.

        Returns:
            FloatArray [num_rows, seq_len, hidden], padded on the right with zeros; in half precision if they are kept
            so, else in single precision.

        Raises:
            DataError: The files are damaged: a passage has no states, or some that are not finite.
        """
        shape = (len(passages), max(num_tokens for _, num_tokens in passages), self.meta.width)
        states = np.zeros(shape, dtype=np.float16 if self.meta.dtype == "float16" else np.float32)
        for row, (start, num_tokens) in enumerate(passages):
            if not 0 <= start <= len(self._records) - num_tokens:
                raise DataError(f"the passage cache `{self.folder}` is broken: a passage begins at {start}")
            records = self._records[start : start + num_tokens]
            if self.meta.dtype == "float16":
                states[row, :num_tokens] = records["values"]
            else:
                with np.errstate(over="ignore", invalid="ignore"):  # looked at below
                    np.multiply(records["values"], records["scale"][:, None], out=states[row, :num_tokens])
        if not np.isfinite(states).all():
            raise DataError(f"the passage cache `{self.folder}` is broken: {_STATES} holds what is no number")
        return states


def _key(token_ids: TokenIds) -> bytes:
    return hashlib.blake2b(np.array(token_ids, dtype="<i4").tobytes(), digest_size=_KEY_BYTES).digest()


def _record(dtype: StatesDtype, width: int) -> np.dtype[np.void]:
    if dtype == "float16":
        return np.dtype([("values", "<f2", (width,))])
    return np.dtype([("scale", "<f4"), ("values", "i1", (width,))])


def _encoded(states: FloatArray, record: np.dtype[np.void]) -> NDArray[np.void]:
    is_half = "scale" not in (record.names or ())
    limit = float(np.finfo(np.float16 if is_half else np.float32).max)
    peak = float(np.abs(states).max())
    if not peak <= limit:  # NaN is not either
        remedy = "; keep them in int8" if is_half and peak < np.inf else ""
        raise BackendError(f"the states of a passage reach {peak:.3g}, which cannot be kept{remedy}")
    records = np.empty(len(states), dtype=record)
    if is_half:
        records["values"] = states
    else:
        scale = np.abs(states).max(axis=1) / _LEVELS
        records["scale"] = scale
        records["values"] = np.rint(states / np.where(scale > 0, scale, 1)[:, None])
    return records


def _read_meta(folder: Path) -> CacheMeta:
    path = folder / _META
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"there is no passage cache at `{folder}`: {_META}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"the passage cache `{folder}` is broken: {_META} is not JSON: {error!s:.80}") from None
    found = values.pop("format", None) if isinstance(values, dict) else None
    if found != _FORMAT:
        raise DataError(f"the passage cache `{folder}` must have the format {_FORMAT}, got {shown(found)}")
    types = {"digest": str, "dtype": str}
    fields = CacheMeta.__dataclass_fields__
    wrong = [name for name in fields if type(values.get(name)) is not types.get(name, int)]
    if (
        wrong
        or values["dtype"] not in _DTYPES
        or min(values["num_passages"], values["num_tokens"]) < 1
        or not (0 <= values["layer"] <= _LARGEST and 1 <= values["width"] <= _LARGEST)
    ):
        raise DataError(f"the passage cache `{folder}` is broken: {_META} does not say what it holds")
    return CacheMeta(**{name: values[name] for name in fields})


def _mapped(path: Path, dtype: np.dtype[Any], length: int) -> NDArray[Any]:  # Any: of two files
    try:
        array = np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except Exception as error:  # noqa: BLE001 - Python's parser reads the header, and raises this and that
        raise DataError(f"the passage cache `{path.parent}` is broken: {path.name}: {error!s:.80}") from None
    if array.dtype != dtype or array.shape != (length,):
        raise DataError(
            f"the passage cache `{path.parent}` is broken: {path.name} must have {length} entries of {dtype}, "
            f"got {array.shape} of {array.dtype}"
        )
    return array
