"""Encoders, and how a model is known again."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from tiny_checkpoints import BACKBONES, tiny_tokenizer, write_tiny_checkpoint
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from gliclass_rerank import Example
from gliclass_rerank.errors import BackendError, CheckpointError, ConfigError, InputError
from gliclass_rerank.examples import CallableEncoder, ExampleStore, LocalEncoder, SentenceTransformerEncoder
from gliclass_rerank.text_models.load import load_encoder
from gliclass_rerank.text_models.options import ModelOptions

TEXTS = ["chain oil", "brake pad saddle", "", "oil oil chain brake"]


def assert_unit(vectors):
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_importing_the_package_loads_neither_torch_nor_faiss():
    heavy = ("torch", "faiss", "transformers")
    code = f"import sys, gliclass_rerank.examples; print([name for name in {heavy} if name in sys.modules])"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_small_store_with_a_function_as_encoder_loads_neither_torch_nor_faiss():
    code = (
        "import sys\nfrom gliclass_rerank import Example\n"
        "from gliclass_rerank.examples import CallableEncoder, ExampleStore\n"
        "store = ExampleStore(None, CallableEncoder(lambda texts: [[1.0, len(text)] for text in texts], name='x'))\n"
        "store.add([Example('a')])\nstore.search('a')\n"
        "print([m for m in ('torch', 'faiss', 'transformers') if m in sys.modules])"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# Functions


def test_a_functions_vectors_are_scaled_to_unit_length():
    encoder = CallableEncoder(lambda texts: [[3, 4], [0, 0]], name="service v1")

    assert encoder.encode(["a", "b"]).tolist() == [[np.float32(0.6), np.float32(0.8)], [0, 0]]
    assert encoder.encode(["a", "b"]).dtype == np.float32
    assert encoder.fingerprint == "callable:service v1"


def test_what_is_no_function_or_has_no_name_is_refused():
    with pytest.raises(InputError, match="`function` must be callable, got 3"):
        CallableEncoder(3, name="x")
    with pytest.raises(InputError, match="`name` must not be blank, got ' '"):
        CallableEncoder(len, name=" ")
    with pytest.raises(InputError, match="`name` must be a string, got None"):
        CallableEncoder(len, name=None)


def test_what_a_function_raises_comes_out():
    def fail(texts):
        raise ConnectionError("no route to host")

    with pytest.raises(ConnectionError, match="no route to host"):
        ExampleStore(None, CallableEncoder(fail, name="x"))


# Models in folders


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("rac") / "bert", "bert")


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_a_checkpoints_backbone_embeds(tiny_folders, backbone):
    vectors = LocalEncoder(tiny_folders[backbone], device="cpu").encode(TEXTS)

    assert_unit(vectors)
    expected = load_encoder(str(tiny_folders[backbone]), ModelOptions(device="cpu")).encode(TEXTS, "query").vectors
    assert (vectors == expected).all()


def test_a_fingerprint_is_the_models_wherever_it_lies(folder, tmp_path):
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    (moved / "README.md").write_text("a model card")

    assert LocalEncoder(moved, device="cpu").fingerprint == LocalEncoder(folder, device="cpu").fingerprint


def test_other_weights_or_settings_have_another_fingerprint(folder, tmp_path):
    changed = shutil.copytree(folder, tmp_path / "changed")
    weights = bytearray((changed / "model.safetensors").read_bytes())
    weights[-5] ^= 1
    (changed / "model.safetensors").write_bytes(weights)

    made = [
        LocalEncoder(folder, device="cpu"),
        LocalEncoder(changed, device="cpu"),
        LocalEncoder(folder, device="cpu", max_tokens=17),
        LocalEncoder(folder, device="cpu", prefix="query: "),
    ]

    assert len({encoder.fingerprint for encoder in made}) == len(made)


def test_a_store_outlives_changes_of_a_folder_that_leave_its_embeddings(folder, tmp_path):
    path, changed = tmp_path / "judged.db", shutil.copytree(folder, tmp_path / "changed")
    config = changed / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()), indent=7))
    with ExampleStore(path, LocalEncoder(folder, device="cpu")) as store:
        store.add([Example("why does the chain slip on the small sprocket " * 9), Example("a bell")], ids=["a", "b"])

    newer = LocalEncoder(changed, device="cpu")
    with ExampleStore(path, newer) as store:
        assert [found.id for found in store.search("a bell", k=1)] == ["b"]
    assert newer.fingerprint != LocalEncoder(folder, device="cpu").fingerprint
    for other in (LocalEncoder(folder, device="cpu", max_tokens=40), LocalEncoder(folder, device="cpu", prefix="q: ")):
        with pytest.raises(ConfigError, match="was filled by the encoder 'folder:"):
            ExampleStore(path, other)


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"a model must be a folder, a bundled model's name or 'bundled', got '.*missing'"
    ):
        LocalEncoder(tmp_path / "missing")
    with pytest.raises(ConfigError, match="`max_tokens` must be at least 1, got 0"):
        LocalEncoder(tmp_path, max_tokens=0)


def test_the_bundled_model_is_the_default_and_finds_what_is_meant(tmp_path):
    with ExampleStore(tmp_path / "judged.db") as store:
        store.add([Example("my bike's chain slips"), Example("how do plants eat?")], ids=["chain", "plants"])
        (found,) = store.search("what do plants feed on?", k=1)
        assert (found.id, found.similarity > 0.5) == ("plants", True)
        encoder = store._encoder
    with ExampleStore(tmp_path / "judged.db", encoder) as store:
        assert len(store) == 2


# Models that are loaded already


@pytest.fixture(scope="module")
def sentence_model(tmp_path_factory):
    library = pytest.importorskip("sentence_transformers")
    folder = tmp_path_factory.mktemp("sentence")
    torch.manual_seed(2)
    size = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 37}
    config = BertConfig(vocab_size=tiny_tokenizer().get_vocab_size(), max_position_embeddings=40, **size)
    BertModel(config).save_pretrained(folder)
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer(), **names).save_pretrained(folder)

    def make(**options):
        return library.SentenceTransformer(str(folder), device="cpu", **options)

    return make


def test_a_sentence_transformer_embeds_with_its_prompt_for_queries(sentence_model):
    model = sentence_model(prompts={"query": "chain ", "document": "oil "})

    vectors = SentenceTransformerEncoder(model).encode(TEXTS)

    assert_unit(vectors)
    expected = model.encode([f"chain {text}" for text in TEXTS], normalize_embeddings=True)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_a_sentence_transformer_is_known_by_its_weights_and_settings(sentence_model):
    changed = sentence_model()
    with torch.no_grad():
        list(changed.parameters())[3][-1] += 0.01
    models = [sentence_model(), changed, sentence_model(prompts={"query": "chain "})]

    assert len({SentenceTransformerEncoder(model).fingerprint for model in models}) == 3
    first, again = SentenceTransformerEncoder(sentence_model()), SentenceTransformerEncoder(sentence_model())
    assert first.fingerprint == again.fingerprint
    assert SentenceTransformerEncoder(changed, name="v2").fingerprint == "sentence-transformers:v2"


def test_what_is_no_sentence_transformer_is_refused():
    with pytest.raises(InputError, match="`model` must be a SentenceTransformer, got str"):
        SentenceTransformerEncoder("all-MiniLM-L6-v2")


def test_a_failing_forward_pass_is_a_backend_error(sentence_model, monkeypatch):
    model = sentence_model()

    def fail(*args, **kwargs):
        raise RuntimeError("out of memory\nlong story")

    monkeypatch.setattr(model, "encode_query", fail)

    with pytest.raises(BackendError, match=r"the encoder failed: out of memory$"):
        SentenceTransformerEncoder(model).encode(["a"])
