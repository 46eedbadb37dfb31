"""ONNX transformers small enough to predict by hand; `onnxruntime` runs them like real ones.

The vocabulary is `WORDS`. The cross-encoder's logit is the number of words that query and passage share; the token
states of the other model are one-hot, so that MaxSim counts the query's tokens that the passage has.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tiny_checkpoints import WORDS
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[unused0]")
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def write_cross_encoder(folder: Path, *, batch_noise: float = 0.0) -> Path:
    """A folder with a cross-encoder; its logits grow by `batch_noise` for every row of the batch.

    Dynamically quantised models behave like this: what a pair scores depends on its batch.
    """
    table = np.eye(len(SPECIAL) + len(WORDS), dtype=np.float32)
    table[: len(SPECIAL)] = 0
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("Cast", ["token_type_ids"], ["types"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["types", "last"], ["is_passage"]),
        helper.make_node("Mul", ["words", "is_passage"], ["passage_words"]),
        helper.make_node("Sub", ["words", "passage_words"], ["query_words"]),
        helper.make_node("ReduceSum", ["passage_words", "first"], ["in_passage"], keepdims=0),
        helper.make_node("ReduceSum", ["query_words", "first"], ["in_query"], keepdims=0),
        helper.make_node("Min", ["in_passage", "in_query"], ["in_both"]),
        helper.make_node("ReduceSum", ["in_both", "first"], ["count"], keepdims=1),
        helper.make_node("Shape", ["input_ids"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["rows"]),
        helper.make_node("Cast", ["rows"], ["rows_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["rows_float", "noise"], ["batch_part"]),
        helper.make_node("Add", ["count", "batch_part"], ["logits"]),
    ]
    constants = {
        "table": table,
        "last": np.array([-1]),
        "first": np.array([1]),
        "zero": np.array(0),
        "noise": np.array(batch_noise, dtype=np.float32),
    }
    return _write(folder, nodes, constants, helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1]))


def write_token_states(folder: Path, *, more: tuple[str, ...] = ()) -> Path:
    """A folder with a model that gives one-hot token states; `more` are tokens beyond `SPECIAL` and `WORDS`."""
    size = len(SPECIAL) + len(WORDS) + len(more)
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "sequence", size])
    return _write(folder, nodes, {"table": np.eye(size, dtype=np.float32)}, output, more=more)


def write_foreign(folder: Path) -> Path:
    """A folder with a model that wants something else than text."""
    nodes = [helper.make_node("Identity", ["pixel_values"], ["logits"])]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1])
    return _write(folder, nodes, {}, output, inputs=("pixel_values",))


def _write(folder: Path, nodes, constants, output, *, inputs=_INPUTS, more=()) -> Path:
    folder.mkdir()
    kind = TensorProto.FLOAT if inputs != _INPUTS else TensorProto.INT64
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, kind, ["batch", "sequence"]) for name in inputs],
        [output],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    _tokenizer(more).save(str(folder / "tokenizer.json"))
    return folder


def _tokenizer(more: tuple[str, ...]) -> Tokenizer:
    vocab = {word: index for index, word in enumerate((*SPECIAL, *WORDS, *more))}
    tokenizer = Tokenizer(WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])],
    )
    return tokenizer


def write_pooling(folder: Path, values: dict[str, object]) -> None:
    """Give an encoder's folder a pooling config."""
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(values))
