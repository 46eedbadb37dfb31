"""Assembly of GLiClass checkpoints from pretrained encoders, as starting points of training.

Markers are new rows of the embedding table, copied from the special tokens in whose place they stand, so that the
encoder reads a `shared_query` block as `[CLS] passage [SEP]`. Two kinds of source:

- A *sentence encoder*, any BERT with mean pooling (all-MiniLM, e5, gte, ...). Mean pooling, normalised features and
  identity projectors make the logit exactly the cosine. Passages see the query in no layer, so it is a bi-encoder;
  for training, passages see a little of the query and tokens are compared (docs/decisions/0009-trained-head.md).
- A *cross-encoder*, a BERT with a classifier over its first token (ms-marco-MiniLM, ...), some or all of its layers.
  The marker is the first token, the projectors are pooler and classifier. It needs training, because its query does
  not see the passage here (docs/decisions/0015-start-from-a-cross-encoder.md).

    python -m gliclass_rerank.learn.assemble [--for-training] SENTENCE_ENCODER_FOLDER CHECKPOINT_FOLDER
    python -m gliclass_rerank.learn.assemble --cross-encoder [--layers 0,1,5] CROSS_ENCODER_FOLDER CHECKPOINT_FOLDER
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import torch
import typer
from tokenizers import Tokenizer
from torch import Tensor
from typer.exceptions import TyperException

from gliclass_rerank.checkpoint.loading import Checkpoint, read_weights, save_checkpoint
from gliclass_rerank.checkpoint.location import read_config
from gliclass_rerank.errors import CheckpointError, GLiClassRerankError, cause, listed, shown
from gliclass_rerank.files.atomic_write import own_file
from gliclass_rerank.model.build import build_model
from gliclass_rerank.model.config import ModelConfig
from gliclass_rerank.model.encoder import backbone_shape
from gliclass_rerank.model.gliclass import GLiClass
from gliclass_rerank.model.segments import CANDIDATES
from gliclass_rerank.prompt.layout import PromptLayout
from gliclass_rerank.prompt.pieces import EXAMPLE, LABEL, SEP
from gliclass_rerank.prompt.tokenizer import TextTokenizer
from gliclass_rerank.prompt.tokenizer_files import read_tokenizer

# Special token that each marker starts from.
_STAND_INS: Final = {LABEL: "[CLS]", SEP: "[SEP]", EXAMPLE: "[SEP]"}


# Start values for training. The query is let in halfway up and damped: undamped in every layer it costs 0.05 nDCG@10
# on trec_dl19, like this nothing. The share of matched tokens, 0.6 of the cosine's, is the best untrained value.
# Scale and intercept fit such logits to a cross-encoder's on BM25 candidates; wrong ones make the first steps
# distort the whole encoder (benchmarks/log/).
_QUERY_KEY_BIAS: Final = -3.0
_LOGIT_SCALE: Final = 14.4
_MATCH_SCALE: Final = 0.6 * _LOGIT_SCALE
_INTERCEPT: Final = -14.76

# A fixed start of passages, behind most queries, makes their embeddings independent of the query's length.
# Untrained, 9 layers of ms-marco-MiniLM-L-12 keep 0.84 of their teacher's order there, as right behind the query,
# but 0.56 from position 0 on.
_CROSS_ENCODER: Final[Mapping[str, Any]] = {  # Any: JSON
    "pooling_strategy": "first",
    "class_token_pooling": "first",
    "normalize_features": False,
    "projector_hidden_act": "tanh",
    "use_segment_embeddings": True,
    "candidate_position_start": 32,
}
_WORDS: Final = "embeddings.word_embeddings.weight"
_LAYER: Final = "encoder.layer."
_TABLES: Final = ("word", "position", "token_type")


def from_sentence_encoder(folder: str | Path, *, for_training: bool = False) -> Checkpoint:
    """Assemble a checkpoint whose logits are cosines.

    Args:
        folder: Sentence-transformers folder with a BERT, its `model.safetensors` and `tokenizer.json`.
        for_training: Let passages see the query from half of the layers on, and compare tokens; logits are then nearly
            linear in the cosines.

    Returns:
        The checkpoint, float32.

    Raises:
        CheckpointError: The architecture is unsupported or a file is missing.
    """
    source = Path(folder)
    encoder, weights, tokenizer = _read(source)
    num_layers = backbone_shape(encoder).num_layers
    _check_tables(source, encoder, weights, num_layers)
    config = _config(encoder, tokenizer, _sentence_settings(num_layers, for_training=for_training))
    model = _empty(config)
    with torch.no_grad(), _fitting(source):
        _fill_backbone(model, weights, tokenizer)
        for projector in (model.text_projector, model.classes_projector):
            for linear in (projector.linear_1, projector.linear_2):
                torch.nn.init.eye_(linear.weight)
                torch.nn.init.zeros_(linear.bias)
        if for_training:
            _prepare(model)
    return _checkpoint(source, config, model, tokenizer)


def from_cross_encoder(folder: str | Path, *, layers: Sequence[int] | None = None) -> Checkpoint:
    """Assemble a start for training with logits on the cross-encoder's scale.

    Args:
        folder: Folder of a `BertForSequenceClassification` with one output, its `model.safetensors` and
            `tokenizer.json`.
        layers: Layers to keep, ascending; None keeps all.

    Returns:
        The checkpoint, float32.

    Raises:
        CheckpointError: The architecture is unsupported, or a file or layer is missing.
    """
    source = Path(folder)
    encoder, weights, tokenizer = _read(source)
    if weights.get("classifier.weight", torch.empty(0)).shape[:1] != (1,) or "bert.pooler.dense.weight" not in weights:
        raise CheckpointError(f"`{source}` is no cross-encoder: it needs a pooler and a classifier with one output")
    num_layers = backbone_shape(encoder).num_layers
    kept = _checked_layers(layers, num_layers)
    backbone = {
        key.removeprefix("bert."): tensor
        for key, tensor in weights.items()
        if key.startswith(("bert.embeddings.", "bert.encoder."))  # the pooler goes into the head
    }
    _check_tables(source, encoder, backbone, num_layers)
    config = _config({**encoder, "num_hidden_layers": len(kept)}, tokenizer, _CROSS_ENCODER)
    model = _empty(config)
    with torch.no_grad(), _fitting(source):
        _fill_backbone(model, _chosen_layers(backbone, kept), tokenizer)
        _place_candidates(model, backbone)
        _fill_head(model, weights)
    return _checkpoint(source, config, model, tokenizer)


def _tokenizer(source: Path) -> Tokenizer:
    tokenizer = read_tokenizer(source)
    lacking = {token for token in _STAND_INS.values() if tokenizer.token_to_id(token) is None}
    if lacking:
        raise CheckpointError(f"the tokenizer in `{source}` lacks {listed(lacking)}, whose places the markers take")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.add_special_tokens(list(_STAND_INS))
    return tokenizer


def _empty(config: ModelConfig) -> GLiClass:
    model = build_model(config)
    assert isinstance(model, GLiClass), "a uni-encoder's config"
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()  # parts missing from the source (a pooler, perhaps) must not stay random
        model.logit_scale.fill_(1.0)
    return model


def _checkpoint(source: Path, config: ModelConfig, model: GLiClass, tokenizer: Tokenizer) -> Checkpoint:
    layout = PromptLayout(TextTokenizer(tokenizer), prompt_first=True)
    return Checkpoint(name=source.name, config=config, model=model, layout=layout)


def _fill_backbone(model: GLiClass, weights: Mapping[str, Tensor], tokenizer: Tokenizer) -> None:
    """Copy a BERT's weights; new rows of the embedding table are copies of the special tokens'."""
    for name, tensor in weights.items():
        if name != "embeddings.position_ids":
            model.get_parameter(f"encoder_model.{name}")[: tensor.shape[0]] = tensor
    table = model.get_parameter(f"encoder_model.{_WORDS}")
    for marker, stand_in in _STAND_INS.items():
        table[tokenizer.token_to_id(marker)] = table[tokenizer.token_to_id(stand_in)]


def _checked_layers(layers: Sequence[int] | None, num_layers: int) -> list[int]:
    kept = list(range(num_layers)) if layers is None else list(layers)
    if not kept or kept != sorted(set(kept)) or kept[0] < 0 or kept[-1] >= num_layers:
        raise CheckpointError(f"`layers` must be ascending numbers from 0 to {num_layers - 1}, got {shown(layers)}")
    return kept


def _chosen_layers(weights: Mapping[str, Tensor], kept: Sequence[int]) -> dict[str, Tensor]:
    chosen = {key: tensor for key, tensor in weights.items() if not key.startswith(_LAYER)}
    for new, old in enumerate(kept):
        prefix = f"{_LAYER}{old}."
        chosen |= {
            f"{_LAYER}{new}.{key.removeprefix(prefix)}": tensor
            for key, tensor in weights.items()
            if key.startswith(prefix)
        }
    return chosen


def _place_candidates(model: GLiClass, weights: Mapping[str, Tensor]) -> None:
    """Place candidates like a cross-encoder's second text: later positions, token type 1, after a first token."""
    positions = model.get_parameter("encoder_model.embeddings.position_embeddings.weight")
    known = weights["embeddings.position_embeddings.weight"].shape[0]
    positions[known:] = positions[known - 1]
    first_type, second_type = weights["embeddings.token_type_embeddings.weight"][:2]
    segments = model.get_parameter("segment_embeddings.weight")
    segments[CANDIDATES] = second_type - first_type
    # The marker is read as [CLS] at position 0 with type 0: later additions are subtracted in advance.
    marker = model.get_parameter(f"encoder_model.{_WORDS}")[model.config.class_token_index]
    marker += positions[0] - positions[model.config.candidate_position_start] - segments[CANDIDATES]


def _fill_head(model: GLiClass, weights: Mapping[str, Tensor]) -> None:
    """Copy pooler and classifier to the projectors: candidates are pooled, the text vector is the classifier's weight.

    The text projector ignores the text at first and may learn to read it.
    """
    candidate, text = model.classes_projector, model.text_projector
    direction, offset = weights["classifier.weight"][0], weights["classifier.bias"]
    candidate.linear_1.weight.copy_(weights["bert.pooler.dense.weight"])
    candidate.linear_1.bias.copy_(weights["bert.pooler.dense.bias"])
    torch.nn.init.eye_(candidate.linear_2.weight)
    candidate.linear_2.bias.copy_(direction * offset / direction.square().sum())  # adds the classifier's bias
    torch.nn.init.eye_(text.linear_1.weight)
    text.linear_2.bias.copy_(direction)


def _read(source: Path) -> tuple[dict[str, Any], dict[str, Tensor], Tokenizer]:  # Any: JSON
    for file in ("config.json", "model.safetensors", "tokenizer.json"):
        if own_file(source, file) is None:
            raise CheckpointError(f"`{source}` holds no {file}")
    encoder = read_config(source)
    if encoder.get("model_type") != "bert":
        raise CheckpointError(f"only a BERT can be assembled, `{source}` holds {shown(encoder.get('model_type'))}")
    return encoder, read_weights(source), _tokenizer(source)


def _check_tables(source: Path, encoder: Mapping[str, Any], weights: Mapping[str, Tensor], num_layers: int) -> None:
    """Check the weights against the config's sizes before building a network of that size."""
    shape = backbone_shape(encoder)
    words, positions, types = (weights.get(f"embeddings.{name}_embeddings.weight") for name in _TABLES)
    tables = [table for table in (words, positions, types) if table is not None and table.ndim == 2 and len(table)]
    is_wide = len(tables) == len(_TABLES) and all(table.shape[1] == shape.width for table in tables)
    has_layers = all(f"{_LAYER}{layer}.output.dense.weight" in weights for layer in range(num_layers))
    if not (is_wide and has_layers and tables[1].shape[0] == shape.max_positions):
        raise CheckpointError(
            f"the weights in `{source}` do not fit its config: tables of width {shape.width}, {shape.max_positions} "
            f"positions and {num_layers} layers are needed"
        )


@contextmanager
def _fitting(source: Path) -> Iterator[None]:
    try:
        yield
    except (AttributeError, IndexError, KeyError, RuntimeError) as error:  # another name or shape
        raise CheckpointError(f"the weights in `{source}` do not fit its config: {cause(error)}") from error


def _prepare(model: torch.nn.Module) -> None:
    """Start values of trained-only parts; a zero last layer adds nothing and still learns."""
    model.get_parameter("logit_scale").fill_(_LOGIT_SCALE)
    model.get_parameter("query_key_bias").fill_(_QUERY_KEY_BIAS)
    model.get_parameter("token_interaction.match_scale.weight").fill_(_MATCH_SCALE)
    model.get_parameter("token_interaction.marker_mlp.2.bias").fill_(_INTERCEPT)
    first = model.get_submodule("token_interaction.marker_mlp.0")
    torch.nn.init.xavier_uniform_(first.weight, generator=torch.Generator().manual_seed(0))  # type: ignore[arg-type] # a Linear's


def _config(encoder: dict[str, Any], tokenizer: Tokenizer, settings: Mapping[str, Any]) -> ModelConfig:  # Any: JSON
    size = tokenizer.get_vocab_size()
    positions = encoder.get("max_position_embeddings", 512) + settings.get("candidate_position_start", 0)
    return ModelConfig.from_dict(
        {
            "encoder_config": {**encoder, "vocab_size": size, "max_position_embeddings": positions},
            "vocab_size": size,
            "class_token_index": tokenizer.token_to_id(LABEL),
            "text_token_index": tokenizer.token_to_id(SEP),
            "example_token_index": tokenizer.token_to_id(EXAMPLE),
            "prompt_first": True,
            "scorer_type": "simple",
            "attention_plan": "shared_query",
            **settings,
        }
    )


def _sentence_settings(num_layers: int, *, for_training: bool) -> dict[str, Any]:  # Any: JSON
    return {
        "pooling_strategy": "avg",
        "class_token_pooling": "average",
        "normalize_features": True,
        "projector_hidden_act": "linear",
        "query_attention_start": num_layers // 2 if for_training else num_layers,
        "query_key_bias": for_training,
        "token_interaction": for_training,
    }


_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@_app.command()
def _assemble(
    source: Annotated[Path, typer.Argument(help="Folder of a BERT.")],
    target: Annotated[Path, typer.Argument(help="Folder to write; must not exist.")],
    for_training: Annotated[
        bool, typer.Option("--for-training", help="Let passages see the query, and compare tokens.")
    ] = False,
    cross_encoder: Annotated[bool, typer.Option("--cross-encoder", help="The source is a cross-encoder.")] = False,
    layers: Annotated[
        str | None,
        typer.Option("--layers", help="Which of a cross-encoder's layers to keep, such as 0,1,5.  [default: all]"),
    ] = None,
    passage_tokens: Annotated[
        int | None,
        typer.Option(
            "--passage-tokens",
            help="Cut longer passages, in training and later, unless a caller sets a window.  [default: the positions]",
        ),
    ] = None,
) -> None:
    """Assemble a checkpoint from a BERT."""
    if for_training and cross_encoder:
        raise typer.BadParameter("not allowed with --cross-encoder", param_hint="--for-training")
    if layers is not None and not cross_encoder:
        raise typer.BadParameter(f"only allowed with --cross-encoder, got {shown(layers)}", param_hint="--layers")
    if cross_encoder:
        checkpoint = from_cross_encoder(source, layers=None if layers is None else _layer_numbers(layers))
    else:
        checkpoint = from_sentence_encoder(source, for_training=for_training)
    config = replace(checkpoint.config, default_passage_tokens=passage_tokens)
    save_checkpoint(replace(checkpoint, config=config), target, weights_dtype=torch.float16)


def _layer_numbers(given: str) -> list[int]:
    try:
        return [int(number) for number in given.split(",")]
    except ValueError:
        message = f"must be numbers such as 0,1,5, got {shown(given)}"
        raise typer.BadParameter(message, param_hint="--layers") from None


def main() -> None:
    """Assemble a folder from the command line; weights are written in half precision.

    Raises:
        SystemExit: With 2 after an error, 130 after Ctrl-C.
    """
    try:
        code = typer.main.get_command(_app).main(prog_name="assemble", standalone_mode=False)
    except TyperException as error:
        code = _failed(error.format_message())
    except (GLiClassRerankError, OSError) as error:
        code = _failed(str(error))
    if code:
        raise SystemExit(code)


def _failed(message: str) -> int:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    return 2


if __name__ == "__main__":
    main()
