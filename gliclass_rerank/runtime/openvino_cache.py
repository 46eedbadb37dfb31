"""Cache of OpenVINO's compiled models beside their graphs; loading takes a quarter (int8) to a half of compiling.

OpenVINO's own `CACHE_DIR` writes in place, so another process can read half a file.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from gliclass_rerank._imports import require_openvino
from gliclass_rerank.files.atomic_write import atomic_file
from gliclass_rerank.files.locks import NO_LINK
from gliclass_rerank.runtime.cache_entry import digest_of
from gliclass_rerank.runtime.openvino_core import DEVICE, the_core
from gliclass_rerank.runtime.private_folder import is_trusted

_DIGEST_BYTES: Final = 32
# Of each kind. OpenVINO keeps what it prepared for a shape, 5,000 of each kind unless told: with ever new shapes a
# process would grow by a third in 10,000 rankings.
_PREPARED_SHAPES: Final = 200


def compiled_model(path: Path, precision: str, threads: int) -> Any:  # Any: openvino has no types
    """Load a graph's compiled form, or compile and store it.

    Args:
        path: ONNX file; its content never changes.
        precision: `INFERENCE_PRECISION_HINT`; part of the compiled form, unlike the other settings.
        threads: CPU threads.

    Returns:
        A `CompiledModel`.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
        RuntimeError: OpenVINO cannot read the graph.
    """
    openvino = require_openvino()
    core = the_core()
    given = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # it would pin the threads of every process to the same first cores
        "CPU_RUNTIME_CACHE_CAPACITY": _PREPARED_SHAPES,
    }
    # A compiled form depends on graph, version and processor features; a shared cache may meet several.
    made_for = [digest_of(path), openvino.get_version(), precision, core.get_property(DEVICE, "FULL_DEVICE_NAME")]
    made_for += sorted(core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"))
    identity = hashlib.sha256(json.dumps(made_for).encode()).digest()
    kept = path.with_suffix(f".{identity.hex()[:16]}.blob")
    if (blob := _read(kept, identity)) is not None:
        with suppress(RuntimeError):  # compiled again
            return core.import_model(blob, DEVICE, given)
    model = core.compile_model(str(path), DEVICE, given)
    with suppress(OSError):  # a cache may be read-only, or the disk full
        exported = BytesIO()
        model.export_model(exported)
        _write(kept, identity, exported.getbuffer())
    return model


def _read(kept: Path, identity: bytes) -> BytesIO | None:
    """Verified content of a file written by `_write`, or None; OpenVINO itself hardly checks it."""
    try:
        handle = os.open(kept, os.O_RDONLY | NO_LINK)
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
