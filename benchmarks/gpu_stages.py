"""Stages of `gpu_check.py` that need no text: kernels, parity, waits, speed and memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from device_counts import passage_lengths, plans_of, shaped_config, token_plan, tokens_of
from torch.nn import functional

from gliclass_rerank.model.build import build_model
from gliclass_rerank.model.config import ModelConfig
from gliclass_rerank.prompt.planner import TokenPlan
from gliclass_rerank.runtime.attention import Attention, batch_tokens_of, has_flash_kernel
from gliclass_rerank.runtime.executor import Executor
from gliclass_rerank.runtime.export import build_executor
from gliclass_rerank.runtime.resolve import resolve_runtime

_TINY = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 96}


@dataclass(frozen=True)
class GpuCheck:
    """Models, device and precision of a check.

    Attributes:
        is_dry: On the CPU with tiny networks.
        models: Names in `MODELS`.
        cases: Queries and passages of each.
        tflops: Limit of the GPU.
        deadline: End of the check, by `time.monotonic`.
        folder: Folder for checkpoints.
    """

    is_dry: bool
    models: Sequence[str]
    cases: Sequence[tuple[int, int]]
    tflops: float
    deadline: float
    folder: Path

    @property
    def device(self) -> torch.device:
        """Device that is checked."""
        return torch.device("cpu" if self.is_dry else "cuda")

    @property
    def half(self) -> str:
        """Precision of the passes."""
        return "float32" if self.is_dry else "bfloat16"

    @property
    def packed(self) -> Attention:
        """Attention of packed passes on the device."""
        return "dense" if self.is_dry else "varlen"

    def config(self, model: str, plan: str, **changes: Any) -> ModelConfig:
        """Config of a model, of a tiny one in a dry run."""
        config = shaped_config(model, plan, **changes)
        if not self.is_dry:
            return config
        values = config.to_dict()
        return ModelConfig.from_dict(
            {**values, "hidden_size": 64, "encoder_config": {**values["encoder_config"], **_TINY}}
        )

    def plans(self, config: ModelConfig, plan: str, case: tuple[int, int], query: int = 16) -> list[TokenPlan[Any]]:
        """Token plans of a case."""
        queries, passages = (min(number, 3) for number in case) if self.is_dry else case
        return [token_plan(config, plan, passage_lengths(passages, seed), query) for seed in range(queries)]


def executor_of(
    config: ModelConfig, plan: str, device: torch.device, dtype: str, attention: Attention
) -> Executor[Any]:
    """Executor of a random network, the same for equal configs."""
    model = build_model(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            noise = torch.randn(weights.shape, generator=generator)
            if weights.dim() > 1:  # wide, so that attention is not flat
                weights.copy_(noise if "embeddings" in name else noise / weights.shape[-1] ** 0.5)
            else:
                weights.copy_(0.1 * noise + (1 if name.endswith("weight") else 0))
    runtime = resolve_runtime(config, backend="torch", device=device, dtype=dtype)
    budget = batch_tokens_of(attention, config.shape.width, device)
    return build_executor(model, replace(runtime, attention=attention, batch_tokens=budget), plan=plan)


def milliseconds(run: Callable[[], object], *, repeats: int, deadline: float) -> dict[str, float]:
    """Median and 95th percentile of a function's time; the first run is not counted."""
    run()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        taken.append(1e3 * (time.perf_counter() - start))
        if time.monotonic() > deadline:
            break
    p95 = sorted(taken)[min(len(taken) - 1, int(0.95 * len(taken)))]
    return {"p50_ms": round(statistics.median(taken), 3), "p95_ms": round(p95, 3)}


def machine_stage(check: GpuCheck) -> dict[str, Any]:
    """Device, versions, kernels, and what new shapes cost fused attention with cuDNN and without."""
    found: dict[str, Any] = {"torch": torch.__version__, "cuda": torch.version.cuda, "varlen": has_flash_kernel()}
    if not check.is_dry:
        properties = torch.cuda.get_device_properties(0)
        found |= {"name": properties.name, "gib": properties.total_memory >> 30}
        found["capability"] = ".".join(map(str, torch.cuda.get_device_capability(0)))
    for uses_cudnn in (True, False):
        before = torch.backends.cuda.cudnn_sdp_enabled()
        torch.backends.cuda.enable_cudnn_sdp(uses_cudnn)
        try:
            found[f"new shapes, {'with' if uses_cudnn else 'without'} cudnn"] = _new_shapes(check, 17 + 64 * uses_cudnn)
        finally:
            torch.backends.cuda.enable_cudnn_sdp(before)
    return found


def _new_shapes(check: GpuCheck, first: int) -> list[dict[str, Any]]:
    found = []
    for length in range(first, first + 5):
        query = torch.zeros(2, 4, length, 32, device=check.device, dtype=torch.bfloat16)
        mask = torch.ones(2, 1, 1, length, device=check.device, dtype=torch.bool)
        times = []
        for _ in range(2):
            start = time.perf_counter()
            functional.scaled_dot_product_attention(query, query, query, attn_mask=mask)
            if not check.is_dry:
                torch.cuda.synchronize()
            times.append(round(1e3 * (time.perf_counter() - start), 3))
        kernel = torch._fused_sdp_choice(query, query, query, attn_mask=mask)
        found.append({"length": length, "kernel": int(kernel), "first_ms": times[0], "second_ms": times[1]})
    return found


def parity_stage(check: GpuCheck) -> list[dict[str, Any]]:
    """Largest difference of logits from float32 on the CPU, for each precision and attention."""
    found = []
    kinds = [("float32", "padded"), (check.half, "padded"), (check.half, check.packed)]
    if not check.is_dry:
        kinds.append(("float16", check.packed))
    for model in check.models:
        for plan in plans_of(model):
            for changes, query in (({}, 16), ({}, 200), ({"query_key_bias": True}, 16)):
                if changes and (plan == "joint" or model != "MiniLM-L6"):
                    continue
                config = check.config(model, plan, **changes)
                plans = check.plans(config, plan, (2, 7), query)
                exact = executor_of(config, plan, torch.device("cpu"), "float32", "padded").run(plans)
                scale = max(abs(logit) for row in exact for logit in row)
                for dtype, attention in kinds:
                    logits = executor_of(config, plan, check.device, dtype, attention).run(plans)
                    worst = max(
                        abs(one - other)
                        for row, others in zip(logits, exact, strict=True)
                        for one, other in zip(row, others, strict=True)
                    )
                    found.append(
                        {"model": model, "plan": plan, "query": query, **changes, "dtype": dtype}
                        | {"attention": attention, "largest_difference": worst, "largest_logit": scale}
                    )
    return found


def waits_stage(check: GpuCheck) -> list[dict[str, Any]]:
    """Kernels of a pass as the device saw them, and a run in which every wait before the result is an error."""
    found = []
    for model in check.models:
        for plan in plans_of(model):
            config = check.config(model, plan)
            executor = executor_of(config, plan, check.device, check.half, check.packed)
            requests = [request for each in check.plans(config, plan, (4, 20)) for request in each.requests]
            executor.network.launch(requests)()
            if check.is_dry:
                found.append({"model": model, "plan": plan})
                continue
            torch.cuda.synchronize()
            torch.cuda.set_sync_debug_mode("error")
            try:
                wait = executor.network.launch(requests)
            finally:
                torch.cuda.set_sync_debug_mode("default")
            wait()
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
                executor.network.launch(requests)()
            kernels = sum(event.device_type == torch.autograd.DeviceType.CUDA for event in profile.events())
            found.append({"model": model, "plan": plan, "device_events": kernels, "waits": 0})
    return found


def speed_stage(check: GpuCheck) -> list[dict[str, Any]]:
    """Milliseconds of calls that are tokenised already: padded, packed, compiled; and the share of the GPU's limit."""
    found = []
    for model in check.models:
        for plan in plans_of(model):
            config = check.config(model, plan)
            kinds = {"padded": "padded", check.packed: check.packed, "compiled": check.packed}
            executors = {
                name: executor_of(config, plan, check.device, check.half, kind) for name, kind in kinds.items()
            }
            executors["compiled"].network.compile_layers("aot_eager" if check.is_dry else "inductor")
            for case in check.cases:
                for query in (16,) if case != (1, 100) else (16, 512):
                    plans = check.plans(config, plan, case, query)
                    pairs = sum(len(member) for each in plans for member in each.members)
                    for kind, executor in executors.items():
                        if kind == "padded" and case[0] > 1 and not check.is_dry and plan == "shared_query":
                            continue  # a pass for each query: seconds, and known
                        times = milliseconds(
                            lambda executor=executor, plans=plans: executor.run(plans),
                            repeats=1 if check.is_dry else 20,
                            deadline=check.deadline,
                        )
                        tokens = sum(tokens_of(request) for each in plans for request in each.requests)
                        ideal_ms = 1e3 * tokens * flops_of_token(config) / (check.tflops * 1e12)
                        found.append(
                            {"model": model, "plan": plan, "queries": case[0], "passages": case[1], "query": query}
                            | {"attention": kind, **times, "pairs_per_s": round(1e3 * pairs / times["p50_ms"])}
                            | {"share_of_limit": round(ideal_ms / times["p50_ms"], 4)}
                        )
    return found


def flops_of_token(config: ModelConfig) -> float:
    """Operations of a token in all layers, attention scores excluded."""
    shape = config.shape
    return shape.num_layers * (8 * shape.width**2 + 2 * shape.ffn_macs)


def memory_stage(check: GpuCheck) -> dict[str, Any]:
    """Peak memory, a call that runs out of memory, 16 threads, and many shapes."""
    model = check.models[0]
    config = check.config(model, "shared_query")
    executor = executor_of(config, "shared_query", check.device, check.half, check.packed)
    plans = check.plans(config, "shared_query", (64, 20))
    expected = executor.run(plans)
    found: dict[str, Any] = {"model": model}
    with ThreadPoolExecutor(16) as threads:
        rows = list(threads.map(lambda _: executor.run(plans), range(16)))
    found["threads_agree"] = all(
        abs(one - other) < 1e-2
        for row in rows
        for logits, others in zip(row, expected, strict=True)
        for one, other in zip(logits, others, strict=True)
    )
    num_shapes = 5 if check.is_dry else 500
    reserved = []
    for number in range(num_shapes):
        executor.run([token_plan(config, "shared_query", passage_lengths(1 + number % 50, number), 3 + number % 60)])
        reserved.append(0 if check.is_dry else torch.cuda.memory_reserved())
    found |= {"shapes": num_shapes, "reserved_after_half": reserved[num_shapes // 2], "reserved": reserved[-1]}
    if not check.is_dry:
        found |= _out_of_memory(executor, plans, expected)
    return found


def _out_of_memory(executor: Executor[Any], plans: list[TokenPlan[Any]], expected: list[list[float]]) -> dict[str, Any]:
    """A call with less memory than its pass takes ends with the same logits."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    executor.run(plans)
    peak = torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((before + (peak - before) // 3) / total)
    try:
        found = executor.run(plans)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    worst = max(
        abs(one - other)
        for row, others in zip(found, expected, strict=True)
        for one, other in zip(row, others, strict=True)
    )
    return {"peak_bytes": peak, "with_a_third_of_it": worst}
