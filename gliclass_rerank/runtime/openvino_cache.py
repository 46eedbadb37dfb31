"""Keeps what openvino makes of a graph beside the graph: reading it takes a quarter (int8) to a half of the time.

openvino's own `CACHE_DIR` is not used: it writes in place, so that another process can meet half a file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from gliclass_rerank._imports import require_openvino
from gliclass_rerank.files.atomic_write import atomic_file
from gliclass_rerank.runtime.cache_entry import digest_of
from gliclass_rerank.runtime.private_folder import is_trusted

DEVICE: Final = "CPU"
_DIGEST_BYTES: Final = 32


def compiled_model(path: Path, precision: str, settings: Mapping[str, Any]) -> Any:  # Any: openvino has no types
    """Load a graph's compiled form, or make it and keep it.

    Args:
        path: The ONNX file; what it holds never changes.
        precision: openvino's `INFERENCE_PRECISION_HINT`; part of the compiled form, unlike the other settings.
        settings: The other settings, by openvino's names.

    Returns:
        A `CompiledModel`.

    Raises:
        MissingDependencyError: openvino is not installed.
        RuntimeError: openvino cannot read the graph.
    """
    openvino = require_openvino()
    core, given = openvino.Core(), {**settings, "INFERENCE_PRECISION_HINT": precision}
    # A compiled form is of one graph, for one version and for what the processor can; a cache may meet several.
    made_for = [digest_of(path), openvino.get_version(), precision, core.get_property(DEVICE, "FULL_DEVICE_NAME")]
    made_for += sorted(core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"))
    identity = hashlib.sha256(json.dumps(made_for).encode()).digest()
    kept = path.with_suffix(f".{identity.hex()[:16]}.blob")
    if (blob := _read(kept, identity)) is not None:
        with suppress(RuntimeError):  # made again
            return core.import_model(blob, DEVICE, given)
    model = core.compile_model(str(path), DEVICE, given)
    with suppress(OSError):  # a cache may be read-only, or the disk full
        exported = BytesIO()
        model.export_model(exported)
        _write(kept, identity, exported.getbuffer())
    return model


def _read(kept: Path, identity: bytes) -> BytesIO | None:
    """What `_write` wrote, if that is what is there: openvino runs what it reads, and looks at little of it."""
    try:
        handle = os.open(kept, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(handle, "rb") as file:
            if not is_trusted(os.fstat(handle)):
                return None
            digest, blob = file.read(_DIGEST_BYTES), file.read()
    except OSError:
        return None
    return BytesIO(blob) if digest == _digest(identity, blob) else None


def _write(kept: Path, identity: bytes, blob: memoryview) -> None:
    with atomic_file(kept) as staging:
        handle = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(_digest(identity, blob))
            file.write(blob)


def _digest(identity: bytes, blob: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(identity)
    digest.update(blob)
    return digest.digest()
