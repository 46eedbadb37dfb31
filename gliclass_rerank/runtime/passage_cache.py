"""Passage cache file format: query-independent passage states at one layer's input, keyed by token ids.

```
<folder>/meta.json    format, layer, digest, dtype, width, num_passages, num_tokens
         keys.npy     bytes [num_passages, 16], ascending: digest of the token ids
         offsets.npy  int64 [num_passages]: first record of each passage
         states.bin   num_tokens records, one per token: float16 [width], or a float32 scale and int8 [width]
```

The folder appears atomically and never changes. Files are memory-mapped: opening reads almost nothing, and processes
share pages. Sizes are checked on opening; checksums of gigabytes would cost too much at every start.
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
# Limit of layer number and width; beyond every network, within numpy's range.
_LARGEST: Final = 1 << 20
_DTYPES: Final = get_args(StatesDtype)


@dataclass(frozen=True, kw_only=True)
class CacheMeta:
    """Metadata of a passage cache.

    Attributes:
        layer: Layer whose input is stored.
        digest: Digest of everything the states depend on beside the token ids.
        dtype: Storage type of the states.
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
    """Sequential writer of passage states.

    Args:
        handle: Output file of the records.
        dtype: Storage type of the states.
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
        """Write a passage unless it is there already.

        Args:
            token_ids: Sequence of the passage.
            states: FloatArray [num_tokens, width].

        Raises:
            BackendError: The states are not finite, or overflow half precision.
        """
        assert states.shape == (len(token_ids), *self._record["values"].shape), "one state a token"
        self._handle.write(_encoded(states, self._record).tobytes())
        self._offsets[_key(token_ids)] = self.num_tokens
        self.num_tokens += len(token_ids)

    def index(self) -> tuple[NDArray[np.bytes_], NDArray[np.int64]]:
        """Ascending keys, and the first record of each."""
        keys = np.frombuffer(b"".join(self._offsets), dtype=_KEY_DTYPE)
        order = np.argsort(keys)
        return keys[order], np.fromiter(self._offsets.values(), dtype=np.int64, count=len(keys))[order]


@contextmanager
def write_passage_cache(
    folder: Path, *, layer: int, digest: str, dtype: StatesDtype, width: int
) -> Iterator[PassageCacheWriter]:
    """Write a passage cache, which appears when the block ends without an error.

    Args:
        folder: New folder.
        layer: Layer whose input is stored.
        digest: Digest of everything the states depend on.
        dtype: Storage type of the states.
        width: Size of a token's state.

    Yields:
        Writer for at least one passage.

    Raises:
        ConfigError: Unknown `dtype`.
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
    """Read access to a passage cache; thread-safe.

    Args:
        folder: Folder written by `write_passage_cache`.

    Attributes:
        folder: Folder of the cache.
        meta: Its metadata.
        layer: Layer whose input is stored.

    Raises:
        DataError: The cache is missing, incomplete, truncated or of another format.
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
            First record of each known passage, by position in `rows`.
        """
        wanted = np.frombuffer(b"".join(map(_key, rows)), dtype=_KEY_DTYPE)
        places = np.searchsorted(self._keys, wanted).clip(max=len(self._keys) - 1)
        is_known = self._keys[places] == wanted
        return {int(row): int(self._offsets[places[row]]) for row in np.flatnonzero(is_known)}

    def states(self, passages: Sequence[tuple[int, int]]) -> NDArray[Any]:  # Any: half or single precision
        """Read states of passages.

        Args:
            passages: First record and number of tokens of each; at least one.

        Returns:
            FloatArray [num_rows, seq_len, hidden], zero-padded on the right; float16 if stored so, else float32.

        Raises:
            DataError: A passage's states are missing or not finite.
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
                with np.errstate(over="ignore", invalid="ignore"):  # checked below
                    np.multiply(records["values"], records["scale"][:, None], out=states[row, :num_tokens])
        if not np.isfinite(states).all():
            raise DataError(f"the passage cache `{self.folder}` is broken: {_STATES} holds numbers that are not finite")
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
    if not peak <= limit:  # also catches NaN
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
    except Exception as error:  # noqa: BLE001 - numpy parses the header as Python and raises many types
        raise DataError(f"the passage cache `{path.parent}` is broken: {path.name}: {error!s:.80}") from None
    if array.dtype != dtype or array.shape != (length,):
        raise DataError(
            f"the passage cache `{path.parent}` is broken: {path.name} must have {length} entries of {dtype}, "
            f"got {array.shape} of {array.dtype}"
        )
    return array
