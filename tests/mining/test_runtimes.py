import json
import sys

import numpy as np
import pytest
import tiny_onnx
import torch
from safetensors.torch import save_file
from tiny_checkpoints import WORDS, tiny_tokenizer, write_tiny_checkpoint
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from gliclass_rerank import Reranker
from gliclass_rerank.checkpoint.loading import save_checkpoint
from gliclass_rerank.checkpoint.location import DEFAULT_MODEL
from gliclass_rerank.errors import BackendError, CheckpointError, ConfigError, MissingDependencyError
from gliclass_rerank.learn.assemble import from_sentence_encoder
from gliclass_rerank.text_models.interfaces import by_ask
from gliclass_rerank.text_models.load import load_encoder, load_teacher
from gliclass_rerank.text_models.options import ModelOptions

PASSAGES = ["chain oil", "brake pad saddle", "", "oil oil chain brake", "saddle"]
ASKS = [("brake chain", PASSAGES), ("saddle", []), ("oil", PASSAGES[:2])]


def options(**settings):
    return ModelOptions(**{"threads": 1, "device": "cpu", **settings})


def onnx_options(**settings):
    return ModelOptions(**{"threads": 1, **settings})


def save_tokenizer(folder):
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer(), **names).save_pretrained(folder)


def bert_config(**settings):
    return BertConfig(
        vocab_size=tiny_tokenizer().get_vocab_size(),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=37,
        max_position_embeddings=40,
        initializer_range=0.5,
        **settings,
    )


@pytest.fixture(scope="module")
def sentence_cross_encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sentence") / "pairs"
    torch.manual_seed(1)
    BertForSequenceClassification(bert_config(num_labels=1)).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def sentence_encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sentence") / "texts"
    torch.manual_seed(2)
    BertModel(bert_config()).save_pretrained(folder)
    save_tokenizer(folder)
    library = "sentence_transformers.sentence_transformer.modules"
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{library}.pooling.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    tiny_onnx.write_pooling(folder, {"embedding_dimension": 24, "pooling_mode": "mean"})
    return folder


def test_an_onnx_cross_encoder_is_recognised_and_scores_pairs(cross_encoder):
    teacher = load_teacher(str(cross_encoder), onnx_options())
    scored = teacher.score(ASKS)
    assert scored.scores == [[1, 1, 0, 2, 0], [], [1, 0]]
    assert teacher.is_logit
    # [CLS] query [SEP] passage [SEP]
    assert scored.num_tokens == sum(3 + len(q.split()) + len(p.split()) for q, passages in ASKS for p in passages)


def test_batches_do_not_change_scores_and_the_longer_part_is_cut(cross_encoder):
    asks = [(" ".join(WORDS[:3]), [" ".join(WORDS[:count]) for count in range(30)])]
    wide = load_teacher(str(cross_encoder), onnx_options(batch_tokens=4096)).score(asks)
    narrow = load_teacher(str(cross_encoder), onnx_options(batch_tokens=1)).score(asks)
    assert wide.scores == narrow.scores == [[min(count, 3) for count in range(30)]]
    cut = load_teacher(str(cross_encoder), onnx_options(max_tokens=8)).score(asks)  # room for two of the passage
    assert cut.scores == [[min(count, 2) for count in range(30)]]
    assert cut.num_tokens < wide.num_tokens


def test_special_tokens_written_in_a_passage_are_text(cross_encoder):
    teacher = load_teacher(str(cross_encoder), onnx_options())
    assert teacher.score([("oil", ["[SEP] oil", "oil [PAD]"])]).scores == [[1, 1]]
    # A query that closes itself would turn the rest of it into passage, which then shares words with it.
    assert teacher.score([("oil [SEP] oil", ["chain"])]).scores == [[0]]


def test_late_interaction_counts_what_the_passage_has(token_states):
    teacher = load_teacher(str(token_states), onnx_options(kind="late-interaction"))
    scored = teacher.score(ASKS)
    # [CLS] and [SEP] always find themselves.
    assert scored.scores == [[pytest.approx(2 + shared) for shared in row] for row in ([1, 1, 0, 2, 0], [], [1, 0])]
    assert not teacher.is_logit


def test_a_prefix_that_names_a_token_becomes_that_token(token_states):
    plain = load_teacher(str(token_states), onnx_options(kind="late-interaction"))
    marked = load_teacher(
        str(token_states),
        onnx_options(kind="late-interaction", query_prefix="[unused0] ", passage_prefix="[unused0] "),
    )
    asks = [("oil", ["oil", "chain"])]
    assert marked.score(asks).scores[0] == pytest.approx([score + 1 for score in plain.score(asks).scores[0]])


def test_short_queries_are_filled_with_tokens_that_match_for_themselves(tmp_path):
    folder = tiny_onnx.write_token_states(tmp_path / "states", more=("[MASK]",))

    def scores(**settings):
        return load_teacher(str(folder), onnx_options(kind="late-interaction", **settings)).score(ASKS).scores

    # A `[MASK]` has the direction of no other token, so that it finds nothing ...
    assert scores(query_tokens=2) == scores()
    # ... but in a passage that has one: [CLS], chain and [SEP] are filled with five.
    teacher = load_teacher(str(folder), onnx_options(kind="late-interaction", query_tokens=8, passage_prefix="[MASK] "))
    plain = load_teacher(str(folder), onnx_options(kind="late-interaction", passage_prefix="[MASK] "))
    asks = [("chain", ["oil", "chain oil"]), ("chain brake oil saddle pad cog hub rim", ["chain"])]
    filled, unfilled = teacher.score(asks).scores, plain.score(asks).scores
    assert filled[0] == [score + 5 for score in unfilled[0]]
    assert filled[1] == unfilled[1], "it is long enough"


def test_a_vocabulary_without_a_mask_cannot_fill_queries(token_states):
    teacher = load_teacher(str(token_states), onnx_options(kind="late-interaction", query_tokens=8))
    with pytest.raises(CheckpointError, match="no \\[MASK\\] to fill queries with"):
        teacher.score(ASKS)
    with pytest.raises(ConfigError, match="between 0 and `max_tokens`"):
        onnx_options(max_tokens=4, query_tokens=5)


def test_an_encoder_in_half_precision_gives_nearly_the_same_vectors(sentence_encoder):
    exact = load_encoder(str(sentence_encoder), options()).encode(PASSAGES, "passage").vectors
    rounded = load_encoder(str(sentence_encoder), options(dtype="bfloat16")).encode(PASSAGES, "passage").vectors
    assert rounded.dtype == np.float32
    assert not np.array_equal(exact, rounded)
    assert (exact * rounded).sum(axis=1).min() > 0.999
    with pytest.raises(ConfigError, match="`dtype` must be one of"):
        options(dtype="float8")


def test_an_onnx_encoder_pools_as_its_folder_or_the_caller_says(tmp_path):
    folder = tiny_onnx.write_token_states(tmp_path / "encoder")
    mean = load_encoder(str(folder), onnx_options()).encode(["oil chain", "oil"], "passage").vectors
    assert mean[0] @ mean[1] == pytest.approx(3 / np.sqrt(4 * 3))  # CLS, SEP and oil of four and three tokens
    tiny_onnx.write_pooling(folder, {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    cls = load_encoder(str(folder), onnx_options()).encode(["oil chain", "brake"], "query").vectors
    assert cls[0] @ cls[1] == pytest.approx(1)
    again = load_encoder(str(folder), onnx_options(pooling="mean")).encode(["oil chain", "oil"], "passage").vectors
    assert np.allclose(again, mean)
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "max"}')
    with pytest.raises(CheckpointError, match="must ask for the pooling `cls` or `mean`"):
        load_encoder(str(folder), onnx_options())


def test_an_encoder_as_a_teacher_scores_by_cosine(token_states):
    teacher = load_teacher(str(token_states), onnx_options(kind="encoder"))
    scored = teacher.score(ASKS)
    vectors = load_encoder(str(token_states), onnx_options()).encode(["brake chain", *PASSAGES], "passage").vectors
    assert scored.scores[0] == pytest.approx([float(vectors[0] @ vector) for vector in vectors[1:]], abs=1e-6)
    assert scored.scores[1] == []
    assert not teacher.is_logit
    assert teacher.score([("oil", [])]).scores == [[]]


def test_a_sentence_transformers_cross_encoder_gives_its_logits(sentence_cross_encoder):
    # Without the empty passage, of which the library makes something of its own.
    asks = [(query, [passage for passage in passages if passage]) for query, passages in ASKS]
    teacher = load_teacher(str(sentence_cross_encoder), options(max_tokens=30))
    scored = teacher.score(asks)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(sentence_cross_encoder)
    model = BertForSequenceClassification.from_pretrained(sentence_cross_encoder).eval()
    with torch.inference_mode():
        expected = [
            model(**tokenizer(query, passage, return_tensors="pt")).logits.item()
            for query, passages in asks
            for passage in passages
        ]
    assert [score for row in scored.scores for score in row] == pytest.approx(expected, abs=1e-5)
    assert teacher.is_logit
    assert scored.num_tokens > 0
    assert teacher.score([("oil", [])]).scores == [[]]


def test_long_pairs_are_cut_to_the_model_and_the_option(sentence_cross_encoder):
    long = [(" ".join(WORDS), [" ".join(WORDS)])]
    assert load_teacher(str(sentence_cross_encoder), options(max_tokens=256)).score(long).num_tokens == 40
    assert load_teacher(str(sentence_cross_encoder), options(max_tokens=20)).score(long).num_tokens == 20


def test_our_own_backbone_embeds_like_the_encoder_it_was_assembled_from(sentence_encoder, tmp_path):
    save_checkpoint(from_sentence_encoder(sentence_encoder), tmp_path / "ours")
    texts = [*PASSAGES[:2], "chain", " ".join(WORDS)]
    theirs = load_encoder(str(sentence_encoder), options(max_tokens=20)).encode(texts, "passage")
    ours = load_encoder(str(tmp_path / "ours"), options(max_tokens=20)).encode(texts, "passage")
    assert np.allclose(ours.vectors, theirs.vectors, atol=1e-5)
    assert ours.num_tokens == theirs.num_tokens
    assert load_encoder(str(sentence_encoder), options()).encode([], "query").vectors.size == 0
    assert load_encoder(str(tmp_path / "ours"), options()).encode([], "query").vectors.size == 0


def test_our_own_checkpoints_teach_with_their_logits(tmp_path):
    folder = write_tiny_checkpoint(tmp_path / "bert", "bert")
    scored = load_teacher(str(folder), options(max_tokens=100)).score(ASKS)
    reranker = Reranker(folder, device="cpu", max_window_tokens=100)
    for (query, passages), scores in zip(ASKS, scored.scores, strict=True):
        logits = {hit.index: hit.logit for hit in reranker.rank(query, passages)}
        assert scores == pytest.approx([logits[index] for index in range(len(passages))], abs=1e-5)
    assert scored.num_tokens > 0


def test_the_bundled_model_needs_no_folder():
    assert load_encoder("bundled", options()).encode(["oil"], "query").vectors.shape[0] == 1
    by_name = [load_teacher(name, options()).score([("oil", ["chain"])]).scores for name in ("bundled", DEFAULT_MODEL)]
    assert by_name[0] == by_name[1]


def test_scores_that_are_no_numbers_are_an_error():
    with pytest.raises(BackendError, match="gave nan as a score"):
        by_ask([1.0, float("nan")], [("q", ["a", "b"])])


def test_a_token_that_the_model_does_not_have_is_a_backend_error(tmp_path):
    folder = tiny_onnx.write_cross_encoder(tmp_path / "broken")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["unheard"] = 5000
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(BackendError, match=r"onnxruntime could not run .* on a batch of shape \(1, 5\)"):
        load_teacher(str(folder), onnx_options()).score([("oil", ["unheard"])])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "oracle"}, "`kind` must be one of `cross-encoder`, `encoder`, .*, got 'oracle'"),
        ({"pooling": "max"}, "`pooling` must be one of `cls`, `mean`, got 'max'"),
        ({"max_tokens": 0}, "`max_tokens` must be at least 1, got 0"),
        ({"threads": 0}, "`threads` must be at least 1, got 0"),
    ],
)
def test_options_out_of_range_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        ModelOptions(**settings)


def test_an_onnx_model_that_does_not_fit_is_refused(cross_encoder, token_states, tmp_path):
    with pytest.raises(ConfigError, match="its kind must be said"):
        load_teacher(str(token_states), onnx_options())
    with pytest.raises(ConfigError, match="an ONNX model cannot be of the kind 'gliclass'"):
        load_teacher(str(token_states), onnx_options(kind="gliclass"))
    with pytest.raises(CheckpointError, match="gives no single logit a row; its outputs are `last_hidden_state`"):
        load_teacher(str(token_states), onnx_options(kind="cross-encoder"))
    with pytest.raises(CheckpointError, match="gives no token states; its outputs are `logits`"):
        load_encoder(str(cross_encoder), onnx_options())
    with pytest.raises(ConfigError, match="ONNX models run on the CPU only, got `device` 'cuda'"):
        load_teacher(str(cross_encoder), onnx_options(device="cuda"))
    with pytest.raises(CheckpointError, match="wants inputs that are not text: `pixel_values`"):
        load_teacher(str(tiny_onnx.write_foreign(tmp_path / "image")), onnx_options())
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model.onnx").write_bytes(b"no model")
    with pytest.raises(CheckpointError, match=r"must hold model\.onnx and tokenizer\.json"):
        load_teacher(str(broken), onnx_options())
    (broken / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="cannot be loaded by onnxruntime"):
        load_teacher(str(broken), onnx_options())


def test_a_folder_that_holds_no_model_is_refused(tmp_path):
    with pytest.raises(
        CheckpointError, match="a model must be a folder, a bundled model's name or 'bundled', got 'absent/model'"
    ):
        load_teacher("absent/model", options())
    with pytest.raises(CheckpointError, match="holds neither an ONNX model nor"):
        load_teacher(str(tmp_path), options())
    with pytest.raises(ConfigError, match="`bundled` holds no model of the kind 'late-interaction'"):
        load_teacher("bundled", options(kind="late-interaction"))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="is not JSON"):
        load_teacher(str(tmp_path), options())


def test_code_of_a_folders_choice_is_not_imported(tmp_path):
    (tmp_path / "modules.json").write_text('[{"idx": 0, "name": "0", "path": "", "type": "antigravity.Fly"}]')
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"not sentence_transformers's own: `antigravity\.Fly`"):
        load_encoder(str(tmp_path), options())


def test_pickled_weights_are_not_read(tmp_path):
    bert_config(num_labels=1, architectures=["BertForSequenceClassification"]).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="cannot be loaded as a CrossEncoder"):
        load_teacher(str(tmp_path), options())


def test_a_teacher_with_several_outputs_is_refused(tmp_path):
    config = bert_config(num_labels=3, architectures=["BertForSequenceClassification"])
    config.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    save_file(BertForSequenceClassification(config).state_dict(), tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"a teacher must have one output, .* has 3"):
        load_teacher(str(tmp_path), options())


def test_a_missing_runtime_is_named_with_its_extra(cross_encoder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match=r"`onnxruntime` .* pip install 'gliclass-rerank\[mining\]'"):
        load_teacher(str(cross_encoder), onnx_options())
