"""Checkpoint config: `config.json`, typed and validated once.

Keys keep upstream's spelling. Keys in `config_keys.IGNORED` concern only upstream's training or other architectures and
are dropped; other unknown keys are logged at debug level. Ten keys are ours: `attention_plan` and
`query_attention_start` (docs/decisions/0003-attention-plans.md), `query_key_bias` and `token_interaction`
(0009-trained-head.md), `candidate_position_start` (0015-start-from-a-cross-encoder.md), `default_passage_tokens`, the
calibrations of scores, labels (0033-scores.md) and of `answerable` (0034-answerable.md), and `int8_ndcg_loss`
(0036-default-backend.md).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from gliclass_rerank.errors import ConfigError, listed, shown
from gliclass_rerank.model.bounds import Number, check
from gliclass_rerank.model.calibration import checked_label_calibration, checked_line
from gliclass_rerank.model.config_keys import BOUNDS, IGNORED
from gliclass_rerank.model.encoder import BackboneShape, backbone_shape, check_activation
from gliclass_rerank.model.supported_backbones import known_settings

logger = logging.getLogger(__name__)

AttentionPlan = Literal["joint", "shared_query"]
Architecture = Literal["uni-encoder", "bi-encoder", "bi-encoder-fused"]
PoolerName = Literal["first", "last", "max", "avg", "sum", "rms", "abs_max", "abs_avg", "pass"]
ScorerName = Literal["simple", "weighted-dot", "mlp", "hopfield", "cross-attn"]
ClassTokenPooling = Literal["first", "average"]

MODEL_TYPE: Final = "GLiClass"

_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "architecture_type": get_args(Architecture),
    "pooling_strategy": get_args(PoolerName),
    "scorer_type": get_args(ScorerName),
    "class_token_pooling": get_args(ClassTokenPooling),
    "attention_plan": get_args(AttentionPlan),
}

# Larger values of unknown keys are dropped.
_MOST_PARTS: Final = 1024
_LONGEST: Final = 1024


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Settings of a checkpoint, named as in upstream's `GLiClassModelConfig`.

    Attributes:
        encoder_config: The backbone's config, with `model_type` (default `deberta-v2`).
        architecture_type: One of `uni-encoder`, `bi-encoder`, `bi-encoder-fused`.
        label_model_name: Name of the label encoder (bi-encoders); ignored on uni-encoders.
        label_model_config: Config of the label encoder (bi-encoders).
        hidden_size: Bottleneck of the projectors and width of the scorer.
        vocab_size: Rows of the backbone's embedding table, markers included.
        class_token_index: Id of the candidate marker `<<LABEL>>`.
        text_token_index: Id of the separator `<<SEP>>`.
        example_token_index: Id of `<<EXAMPLE>>`.
        pooling_strategy: Pooling of the text's states.
        class_token_pooling: Candidate vector from the marker's state (`first`) or the tokens' mean (`average`).
        embed_class_token: Include the marker; else take the token after it (`first`) or all but it (`average`).
        extract_text_features: Start text pooling at the first separator instead of the first token.
        prompt_first: Candidates come before (True) or after the text.
        scorer_type: Name of the scorer.
        scorer_num_heads: Heads of the `cross-attn` scorer.
        scorer_mlp_hidden_size: Width of the `cross-attn` scorer's MLP.
        normalize_features: L2-normalise both vectors and multiply the logit by `logit_scale`.
        use_lstm: Run a bidirectional LSTM over the text states.
        squeeze_layers: Fuse all layers by layer-wise attention.
        encoder_layer_id: Hidden state that is read; -1 means the last.
        use_segment_embeddings: Add learned vectors for candidates, text and examples.
        projector_hidden_act: Activation of the projectors, by transformers' name.
        use_calibrator: Rescale logits by a calibrator.
        calibrator_hidden_size: Width of its MLP.
        calibrator_beta_max: Its largest inverse temperature.
        calibrator_use_bias: Let it shift logits too.
        attention_plan: Plan the weights were trained with. Ours; absent means `joint`.
        query_attention_start: First layer in which passages see the query under `shared_query`; 0 is every layer, the
            number of layers is never. Ours.
        candidate_position_start: Position of a candidate's marker under `shared_query` with absolute positions. Above 0
            the first positions are the query's alone, as in a cross-encoder. Ours.
        query_key_bias: Add a learned bias per layer and head to passages' attention scores on query tokens. Ours.
        token_interaction: Compare passage and query token by token as well. Ours, `shared_query` only.
        score_calibration: Slope (above 0) and intercept before the sigmoid; None for the raw logit. Ours, fitted by
            `gliclass-rerank calibrate`, as are the next two.
        answerable_calibration: Slope and intercept of the best logit for `Ranking.answerable`; None for none. Ours.
        label_calibration: Slope and intercept of a label's margin over the best other label, and the logit that stands
            in for an absent one; None for the raw logit's sigmoid. Ours.
        default_passage_tokens: Default limit of passages under `shared_query`, if longer ones were never trained; None
            for the window. Ours.
        int8_ndcg_loss: Largest loss of nDCG@10 in int8 against float32 over the sets it was measured on; None if it was
            not measured. Ours.
        shape: Sizes of the backbone, from `encoder_config`.
    """

    encoder_config: Mapping[str, Any]  # Any: a backbone's config is a JSON object of its own
    architecture_type: Architecture = "uni-encoder"
    label_model_name: str | None = None
    label_model_config: Mapping[str, Any] | None = None  # Any: see above
    hidden_size: int
    vocab_size: int
    class_token_index: int
    text_token_index: int
    example_token_index: int
    pooling_strategy: PoolerName = "first"
    class_token_pooling: ClassTokenPooling = "first"
    embed_class_token: bool = True
    extract_text_features: bool = False
    prompt_first: bool = False
    scorer_type: ScorerName = "simple"
    scorer_num_heads: int = 16
    scorer_mlp_hidden_size: int = 1024
    normalize_features: bool = False
    use_lstm: bool = False
    squeeze_layers: bool = False
    encoder_layer_id: int = -1
    use_segment_embeddings: bool = False
    projector_hidden_act: str = "gelu"
    use_calibrator: bool = False
    calibrator_hidden_size: int = 256
    calibrator_beta_max: float = 3.0
    calibrator_use_bias: bool = False
    attention_plan: AttentionPlan = "joint"
    query_attention_start: int = 0
    candidate_position_start: int = 0
    query_key_bias: bool = False
    token_interaction: bool = False
    score_calibration: tuple[float, float] | None = None
    answerable_calibration: tuple[float, float] | None = None
    label_calibration: tuple[float, float, float] | None = None
    default_passage_tokens: int | None = None
    int8_ndcg_loss: float | None = None
    shape: BackboneShape = field(init=False, repr=False, compare=False)
    _squeeze_inputs: int | None = field(default=None, repr=False)
    _scorer_width: int = field(default=256, repr=False)

    def __post_init__(self) -> None:
        for key in _CHOICES:
            _check_choice(key, getattr(self, key))
        check({key: getattr(self, key) for key in BOUNDS}, BOUNDS)
        check_activation("projector_hidden_act", self.projector_hidden_act)
        object.__setattr__(self, "shape", backbone_shape(self.encoder_config))
        self._check_scorer()
        if self.is_bi_encoder:
            self._check_label_encoder()
        elif self.shape.pad_id >= self.vocab_size:
            raise ConfigError(
                f"`vocab_size` must be above the backbone's padding id {self.shape.pad_id}, got {self.vocab_size}"
            )
        if not -self.shape.num_layers - 1 <= self.encoder_layer_id <= self.shape.num_layers:
            raise ConfigError(
                f"`encoder_layer_id` must be one of the backbone's {self.shape.num_layers} layers, 0 its embeddings or "
                f"-1 the last, got {self.encoder_layer_id}"
            )
        self._check_plan()
        self._check_ours()

    def _check_plan(self) -> None:
        for key in ("candidate_position_start", "query_key_bias", "token_interaction"):
            if getattr(self, key) and (self.is_bi_encoder or self.attention_plan != "shared_query"):
                raise ConfigError(
                    f"`{key}` needs a uni-encoder with the plan 'shared_query', got {self.attention_plan!r}"
                )
        if not 0 <= self.query_attention_start <= self.shape.num_layers:
            raise ConfigError(
                f"`query_attention_start` must be between 0 and the number of layers {self.shape.num_layers}, "
                f"got {self.query_attention_start}"
            )

    def _check_ours(self) -> None:
        start, longest = self.candidate_position_start, self.shape.max_positions
        if type(start) is not int or start < 0 or (start and (longest is None or start >= longest - 1)):
            raise ConfigError(
                "`candidate_position_start` must be a whole number from 0 that leaves positions for a candidate "
                f"(the backbone has {longest or 'none'}), got {shown(start)}"
            )

        for key in ("score_calibration", "answerable_calibration"):
            object.__setattr__(self, key, checked_line(key, getattr(self, key)))
        object.__setattr__(self, "label_calibration", checked_label_calibration(self.label_calibration))

        if self.int8_ndcg_loss is not None:
            check({"int8_ndcg_loss": self.int8_ndcg_loss}, {"int8_ndcg_loss": Number(0, 1)})

        longest = self.default_passage_tokens
        if longest is not None and (type(longest) is not int or longest < 1):
            raise ConfigError(f"`default_passage_tokens` must be a whole number above 0, got {shown(longest)}")

    def _check_label_encoder(self) -> None:
        if self.label_model_config is None:
            raise ConfigError(f"the architecture {self.architecture_type!r} needs `label_model_config`")
        backbone_shape(self.label_model_config)

    def _check_scorer(self) -> None:
        is_cross = self.scorer_type == "cross-attn"
        width = self.shape.width
        if is_cross != (self.pooling_strategy == "pass"):
            raise ConfigError(
                "the scorer `cross-attn` and the pooling strategy `pass` go together, got "
                f"scorer_type={self.scorer_type!r} with pooling_strategy={self.pooling_strategy!r}"
            )
        if is_cross and self.is_bi_encoder:
            raise ConfigError(f"the scorer `cross-attn` does not work in the architecture {self.architecture_type!r}")
        if is_cross and self.use_calibrator:
            raise ConfigError("the scorer `cross-attn` takes no calibrator, which reads one vector a text")
        if is_cross and width % self.scorer_num_heads:
            raise ConfigError(
                f"`scorer_num_heads` must divide the encoder's width {width}, got {self.scorer_num_heads}"
            )
        if self.scorer_type != "simple" and self.hidden_size != width:
            raise ConfigError(
                f"the scorer {self.scorer_type!r} needs a `hidden_size` equal to the encoder's width {width}, "
                f"got {self.hidden_size}"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Read a `config.json` and fill in upstream's defaults.

        Args:
            values: Parsed JSON object.

        Returns:
            Validated config.

        Raises:
            ConfigError: Unknown choice or invalid combination, with the value.
        """
        encoder, label = _nested(values, "encoder_config") or {}, _nested(values, "label_model_config")
        encoder.setdefault("model_type", "deberta-v2")
        # First, because other architectures have backbones of their own.
        _check_choice("architecture_type", values.get("architecture_type") or cls.architecture_type)
        shape = backbone_shape(encoder)
        known = set(_file_keys())
        given = {key: value for key, value in values.items() if key in known and value is not None}
        unknown = set(values) - known - IGNORED
        if unknown:
            logger.debug("config keys without effect here: %s", listed(unknown))
        vocab_size = given.get("vocab_size", encoder.get("vocab_size"))
        if vocab_size is None:
            raise ConfigError("the config gives no `vocab_size`, neither at the top nor in `encoder_config`")
        given.update(
            encoder_config=encoder,
            vocab_size=vocab_size,
            hidden_size=given.get("hidden_size", shape.width),
            label_model_config=None if label is None else {"model_type": "deberta-v2", **label},
        )
        check({"vocab_size": vocab_size}, BOUNDS)
        # Upstream appends the markers to the vocabulary in this order if the config does not place them.
        for offset, key in enumerate(("class_token_index", "text_token_index", "example_token_index")):
            if given.get(key, -1) == -1:
                given[key] = vocab_size + offset
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:
        """Convert to the file format; `from_dict` reads it back unchanged."""
        values = {key: getattr(self, key) for key in _file_keys()}
        # Paths and repository names are not carried from one file to the next.
        values["encoder_config"] = known_settings(self.encoder_config)
        label = self.label_model_config if self.is_bi_encoder else None
        values["label_model_config"] = None if label is None else known_settings(label)
        values["model_type"] = MODEL_TYPE
        # Upstream looks for adapters in a folder of this name and fails without it.
        values["encoder_model_name"] = self.shape.model_type
        values["architectures"] = ["GLiClassModel"]
        return values

    def with_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> ModelConfig:
        """Take the widths that the config does not state from the weights.

        Kept for checkpoint compatibility (docs/decisions/0002-upstream-quirks.md): upstream ignores the configured
        width of
        the `mlp` and `hopfield` scorers, and checkpoints differ in the number of layers that `squeeze_layers` fuses.

        Args:
            shapes: Shape of every tensor, by key without the `model.` prefix.

        Returns:
            Config that fits the weights.
        """
        squeeze = shapes.get("layer_wise_attention.W1.weight", ())
        mlp = shapes.get("scorer.mlp.0.weight", ())
        layers = self.shape.num_layers
        # Other shapes fit no checkpoint; they are reported with the rest.
        return dataclasses.replace(
            self,
            _squeeze_inputs=squeeze[1]
            if len(squeeze) == 2 and squeeze[1] in {layers, layers + 1}
            else self._squeeze_inputs,
            _scorer_width=mlp[0] if len(mlp) == 2 and mlp[0] > 1 else self._scorer_width,
        )

    @property
    def max_window_tokens(self) -> int | None:
        """Longest sequence with positions in the backbone; None if positions are relative."""
        longest = self.shape.max_positions
        return None if longest is None else longest - self.candidate_position_start

    @property
    def is_bi_encoder(self) -> bool:
        """True if labels have an encoder of their own."""
        return self.architecture_type != "uni-encoder"

    @property
    def label_shape(self) -> BackboneShape:
        """Sizes of the label encoder (bi-encoders only)."""
        assert self.label_model_config is not None, "uni-encoders have no label encoder"
        return backbone_shape(self.label_model_config)

    @property
    def squeeze_inputs(self) -> int:
        """Number of layer states that `squeeze_layers` fuses."""
        return self.shape.num_layers if self._squeeze_inputs is None else self._squeeze_inputs

    @property
    def scorer_width(self) -> int:
        """Width of the `mlp` and `hopfield` scorers."""
        return self._scorer_width

    @property
    def reads_all_layers(self) -> bool:
        """True if the head reads more than the last hidden state."""
        return self.squeeze_layers or self.encoder_layer_id != -1


def _check_choice(key: str, value: object) -> None:
    if value not in _CHOICES[key]:
        raise ConfigError(f"`{key}` must be one of {listed(_CHOICES[key])}, got {shown(value)}")


def _nested(values: Mapping[str, Any], key: str) -> dict[str, Any] | None:  # Any: JSON
    """Copy of a nested config; unknown keys keep plain values only."""
    nested = values.get(key)
    if nested is None:
        return None
    if not isinstance(nested, Mapping):
        raise ConfigError(f"`{key}` must be an object, got {shown(nested)}")
    return {name: value for name, value in nested.items() if _is_plain(value, depth=3)}


def _is_plain(value: object, *, depth: int) -> bool:
    if isinstance(value, (dict, list)):
        parts = value.values() if isinstance(value, dict) else value
        return depth > 0 and len(value) <= _MOST_PARTS and all(_is_plain(part, depth=depth - 1) for part in parts)
    return value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) <= _LONGEST)


def _file_keys() -> list[str]:
    """Names of the fields in `config.json`."""
    return [f.name for f in dataclasses.fields(ModelConfig) if f.init and not f.name.startswith("_")]
