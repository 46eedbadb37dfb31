"""What a user would pick instead: models that read the query with every passage, on the runtimes they are used with.

sentence-transformers makes its ONNX and OpenVINO files with optimum-onnx, whose last release (0.1.0) wants
transformers < 4.58, and optimum-intel (2.2.0: < 5.6), so neither can be installed beside what we are developed against.
Here the same networks are exported by torch and quantised by the calls that both come down to, with their settings:
onnxruntime's `quantize_dynamic` (int8 weights for each channel, as `export_dynamic_quantized_onnx_model` with
`avx512_vnni`) and nncf's `quantize` (as `export_static_quantized_openvino_model`, but calibrated on fewer texts, which
changes scales and not speed). Batches are as in `CrossEncoder.predict`: 32 pairs, sorted by characters. The tokenizer
is called without transformers, which is quicker than what sentence-transformers does.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from contestants import Contestant, Runner, Tokens, UnavailableError
from loads import Question
from networks import NUM_POSITIONS
from numpy.typing import NDArray
from tokenizers import Tokenizer

from gliclass_rerank.prompt.sample import sample_rankings

BATCH_SIZE = 32
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
FLOAT32_FILE, ONNX_FILE, OPENVINO_FILE = "model.onnx", "int8.onnx", "int8.xml"

TORCH, ONNX, OPENVINO = (f"CrossEncoder, {name}" for name in ("torch float32", "ONNX int8", "OpenVINO int8"))
ONE_BATCH = "FlashRank-style single batch, ONNX int8"
BASES = (TORCH, ONNX, OPENVINO, ONE_BATCH)

Arrays = Mapping[str, NDArray[np.int64]]
Forward = Callable[[Arrays], NDArray[np.float32]]


def peers(pairs: Path, trained: Path | None) -> list[Contestant]:
    """Contestants.

    Args:
        pairs: A random cross-encoder, exported.
        trained: Folder of ms-marco-MiniLM-L-12-v2 as int8 ONNX; None if it is not there.

    Returns:
        Bases first.
    """
    return [
        Contestant(TORCH, OpenTorch(pairs)),
        Contestant(ONNX, OpenExported(pairs, ONNX_FILE)),
        Contestant(OPENVINO, OpenExported(pairs, OPENVINO_FILE)),
        Contestant(ONE_BATCH, OpenExported(pairs, ONNX_FILE, batch_size=None)),
        Contestant(
            "ms-marco-MiniLM-L-12-v2, ONNX int8", OpenExported(trained, FLOAT32_FILE, max_tokens=512), is_trained=True
        ),
    ]


@dataclass(frozen=True)
class OpenTorch:
    """Opens a folder as a `CrossEncoder`."""

    folder: Path

    def __call__(self) -> Runner:
        """Open it."""
        return TorchPairs(self.folder)


@dataclass(frozen=True)
class OpenExported:
    """Opens an exported network.

    Attributes:
        folder: Holds it with its `tokenizer.json`; None if it is not there.
        file: The network.
        batch_size: Pairs of a forward pass; None for all of them, as they come.
        max_tokens: Longest pair; what is longer is cut.
    """

    folder: Path | None
    file: str
    batch_size: int | None = BATCH_SIZE
    max_tokens: int = NUM_POSITIONS

    def __call__(self) -> Runner:
        """Open it."""
        if self.folder is None:
            raise UnavailableError("`--peers` was not given")
        path = self.folder / self.file
        if path.suffix == ".xml":
            _need("openvino", "nncf")
            forward = openvino_forward(path)
        else:
            _need("onnxruntime")
            forward = onnx_forward(path)
        return ExportedPairs(forward, self.folder / "tokenizer.json", self.batch_size, self.max_tokens)


class TorchPairs:
    """`sentence_transformers.CrossEncoder` as it is."""

    def __init__(self, folder: Path) -> None:
        from sentence_transformers import CrossEncoder

        self._model = CrossEncoder(str(folder), device="cpu", max_length=NUM_POSITIONS)

    def scores(self, question: Question) -> Sequence[float]:
        """See `Runner`."""
        return self._model.predict(pairs_of(question), batch_size=BATCH_SIZE, show_progress_bar=False).tolist()

    def tokens(self, question: Question) -> Tokens:
        """See `Runner`."""
        queries, passages = zip(*pairs_of(question), strict=True)
        encoded = self._model.tokenizer(list(queries), list(passages), truncation=True)
        return padded_tokens([len(ids) for ids in encoded["input_ids"]], batches(question, BATCH_SIZE))


class ExportedPairs:
    """An exported network.

    Args:
        forward: Runs one batch.
        tokenizer: A `tokenizer.json`.
        batch_size: As in `OpenExported`; so is the next.
        max_tokens: Longest pair.
    """

    def __init__(self, forward: Forward, tokenizer: Path, batch_size: int | None, max_tokens: int) -> None:
        self._forward, self._batch_size = forward, batch_size
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)

    def scores(self, question: Question) -> Sequence[float]:
        """See `Runner`."""
        encoded = self._tokenizer.encode_batch(pairs_of(question))
        logits = np.zeros(len(encoded), dtype=np.float32)
        for rows in batches(question, self._batch_size):
            shape = len(rows), max(len(encoded[row].ids) for row in rows)
            arrays = {name: np.zeros(shape, dtype=np.int64) for name in INPUTS}
            for at, row in enumerate(rows):
                length = len(encoded[row].ids)
                arrays["input_ids"][at, :length] = encoded[row].ids
                arrays["attention_mask"][at, :length] = 1
                arrays["token_type_ids"][at, :length] = encoded[row].type_ids
            logits[rows] = self._forward(arrays)[:, 0]
        return logits.tolist()

    def tokens(self, question: Question) -> Tokens:
        """See `Runner`."""
        encoded = self._tokenizer.encode_batch(pairs_of(question))
        return padded_tokens([len(one.ids) for one in encoded], batches(question, self._batch_size))


def pairs_of(question: Question) -> list[tuple[str, str]]:
    """The query, after the prefix, with each passage."""
    query = f"{question.prefix} {question.query}".strip()
    return [(query, passage) for passage in question.passages]


def batches(question: Question, size: int | None) -> list[list[int]]:
    """Positions of the pairs of each batch: in order of characters, most first; None is one batch."""
    if size is None:
        return [list(range(len(question.passages)))]
    order = sorted(range(len(question.passages)), key=lambda row: -len(question.passages[row]))
    return [order[start : start + size] for start in range(0, len(order), size)]


def padded_tokens(lengths: Sequence[int], rows: Sequence[Sequence[int]]) -> Tokens:
    """Tokens of batches in which all are as long as the longest."""
    return Tokens(sum(lengths), sum(len(batch) * max(lengths[row] for row in batch) for batch in rows))


def onnx_forward(path: Path) -> Forward:
    """Run a file with onnxruntime, whose settings are its own but for the threads."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    return lambda arrays: session.run(None, {name: arrays[name] for name in names})[0]


def openvino_forward(path: Path) -> Forward:
    """Run a file with openvino, which takes bfloat16 for what is not int8 where the processor has it."""
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    model = openvino.Core().compile_model(str(path), "CPU", settings)
    return lambda arrays: model(dict(arrays))[0]


def export(folder: Path) -> None:
    """Write a cross-encoder's network beside it, in float32 and in int8 for each runtime that is installed."""
    from transformers import BertForSequenceClassification

    network = BertForSequenceClassification.from_pretrained(folder).eval()
    example = {name: torch.ones(2, 8, dtype=torch.long) for name in INPUTS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about what it cannot follow, and that it is the old one
        torch.onnx.export(
            network,
            tuple(example.values()),
            str(folder / FLOAT32_FILE),
            input_names=list(INPUTS),
            output_names=["logits"],
            dynamic_axes={name: {0: "pairs", 1: "tokens"} for name in INPUTS} | {"logits": {0: "pairs"}},
            dynamo=False,
        )
    if find_spec("onnxruntime") is not None:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(folder / FLOAT32_FILE, folder / ONNX_FILE, per_channel=True, weight_type=QuantType.QInt8)
    if find_spec("openvino") is not None and find_spec("nncf") is not None:
        _quantise_static(folder)


def _quantise_static(folder: Path) -> None:
    import nncf
    import openvino

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    texts = [
        {
            "input_ids": np.array([encoding.ids]),
            "attention_mask": np.array([encoding.attention_mask]),
            "token_type_ids": np.array([encoding.type_ids]),
        }
        for query, passages in sample_rankings()[:2]
        for encoding in tokenizer.encode_batch([(query, passage) for passage in passages[:4]])
    ]
    with redirect_stdout(sys.stderr):  # where progress belongs
        model = nncf.quantize(
            openvino.Core().read_model(folder / FLOAT32_FILE),
            nncf.Dataset(texts),
            subset_size=len(texts),
            model_type=nncf.ModelType.TRANSFORMER,
        )
    openvino.save_model(model, folder / OPENVINO_FILE)


def _need(*packages: str) -> None:
    for package in packages:
        if find_spec(package) is None:
            raise UnavailableError(f"{package} is not installed")
