"""Stages of `gpu_check.py` from text: our rankings, and sentence-transformers with a network of the same size."""

from __future__ import annotations

import random
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from device_counts import passage_lengths
from gpu_stages import GpuCheck, milliseconds
from networks import words
from tokenizers import Tokenizer

from gliclass_rerank import Reranker
from gliclass_rerank.checkpoint.loading import Checkpoint, load_checkpoint, save_checkpoint
from gliclass_rerank.model.build import build_model

_BATCHES = (32, 128, 512, 1024)


def texts(case: tuple[int, int], seed: int = 0) -> tuple[list[str], list[list[str]]]:
    """Queries of 14 words, and their passages."""
    rng, choice = (
        random.Random(seed),
        words(Tokenizer.from_str(load_checkpoint("minilm-l6-v1").layout.tokenizer.source)),
    )
    queries, passages = case
    text = lambda count: " ".join(rng.choices(choice, k=count))  # noqa: E731
    lists = [[text(max(1, length - 2)) for length in passage_lengths(passages, number)] for number in range(queries)]
    return [text(14) for _ in range(queries)], lists


def written(check: GpuCheck, model: str) -> Path:
    """Random checkpoint of a model with the bundled tokenizer."""
    folder = check.folder / model
    if not folder.exists():
        config = check.config(model, "shared_query")
        network = build_model(config)
        torch.manual_seed(0)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.02)
        save_checkpoint(Checkpoint(model, config, network, load_checkpoint("minilm-l6-v1").layout), folder)
    return folder


def text_stage(check: GpuCheck) -> list[dict[str, Any]]:
    """Milliseconds of `rank_many` from text."""
    found = []
    for model in check.models:
        reranker = Reranker(written(check, model), device=check.device, dtype=check.half)
        for case in check.cases:
            queries, lists = texts((1, 3) if check.is_dry else case)
            times = milliseconds(
                lambda reranker=reranker, queries=queries, lists=lists: reranker.rank_many(queries, lists),
                repeats=1 if check.is_dry else 20,
                deadline=check.deadline,
            )
            pairs = sum(map(len, lists))
            found.append(
                {"model": model, "queries": case[0], "passages": case[1], "attention": reranker.runtime.attention}
                | {**times, "pairs_per_s": round(1e3 * pairs / times["p50_ms"])}
            )
    return found


def peers_stage(check: GpuCheck) -> Any:
    """Pairs/s of sentence-transformers' cross-encoder of the same size, at its best batch size."""
    if find_spec("sentence_transformers") is None:
        return "sentence-transformers is not installed"
    from sentence_transformers import CrossEncoder

    found = []
    for model in check.models:
        folder = _written_peer(check, model)
        peer = CrossEncoder(str(folder), device=str(check.device), model_kwargs={"dtype": getattr(torch, check.half)})
        queries, lists = texts((1, 3) if check.is_dry else (64, 20))
        pairs = [(query, passage) for query, passages in zip(queries, lists, strict=True) for passage in passages]
        for size in _BATCHES[:1] if check.is_dry else _BATCHES:
            times = milliseconds(
                lambda peer=peer, pairs=pairs, size=size: peer.predict(pairs, batch_size=size, show_progress_bar=False),
                repeats=1 if check.is_dry else 3,
                deadline=check.deadline,
            )
            found.append({"model": model, "batch": size, "pairs_per_s": round(1e3 * len(pairs) / times["p50_ms"])})
    return found


def _written_peer(check: GpuCheck, model: str) -> Path:
    """Cross-encoder of a model's size with random weights and the bundled tokenizer."""
    from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast

    folder = check.folder / f"{model}-peer"
    values = dict(check.config(model, "shared_query").encoder_config)
    config = AutoConfig.for_model(values.pop("model_type"), **values, num_labels=1)
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(load_checkpoint("minilm-l6-v1").layout.tokenizer.source, encoding="utf-8")
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **names)
    tokenizer.model_max_length = 512
    tokenizer.save_pretrained(folder)
    return folder
