"""Keeps what openvino makes of a graph beside the graph: reading it takes a quarter (int8) to a half of the time.

openvino's own `CACHE_DIR` is not used: it writes in place, so that another process can meet half a file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from gliclass_rerank._optional import require
from gliclass_rerank.whole_file import whole_file

DEVICE = "CPU"


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
    openvino = require("openvino", extra="openvino")
    core, given = openvino.Core(), {**settings, "INFERENCE_PRECISION_HINT": precision}
    # A compiled form is for one version and for what the processor can; a shared cache may meet several.
    made_for = [openvino.get_version(), precision, core.get_property(DEVICE, "FULL_DEVICE_NAME")]
    made_for += sorted(core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"))
    kept = path.with_suffix(f".{hashlib.sha256(json.dumps(made_for).encode()).hexdigest()[:16]}.blob")
    if kept.is_file():
        with suppress(RuntimeError):  # damaged: made again
            return core.import_model(BytesIO(kept.read_bytes()), DEVICE, given)
    model = core.compile_model(str(path), DEVICE, given)
    with suppress(OSError), whole_file(kept) as staging:  # a cache may be read-only, or the disk full
        exported = BytesIO()
        model.export_model(exported)
        staging.write_bytes(exported.getbuffer())
    return model
