"""Fine-tuning on a few texts a label, as the benchmarks of classification do it.

All weights but the embeddings, a fixed number of passes, and the last weights: nothing is chosen on the test.
"""

from __future__ import annotations

from pathlib import Path

from gliclass_rerank.learn.training import DevConfig, LossConfig, SourceConfig, StartConfig, TrainConfig

EPOCHS, TEXTS_PER_STEP = 8, 4


def few_shot_config(
    data: Path,
    output: Path,
    *,
    model: str | None,
    shots: int | None,
    seed: int,
    temperature: float = 1.0,
    dev: tuple[DevConfig, ...] = (),
) -> TrainConfig:
    """The training run.

    Args:
        data: A classification set, whose training texts are drawn from, or a file of records.
        output: Folder of the run; the weights will be in `last`.
        model: Where it starts; None for the bundled model.
        shots: Texts a label, drawn by the seed; None takes all.
        seed: Decides every draw.
        temperature: By what logits are divided before the softmax of the loss: trained logits have their own scale,
            cosines need a small one.
        dev: What is measured before and after.
    """
    loss = LossConfig(name="listwise", temperature=temperature)
    return TrainConfig(
        output=output,
        start=StartConfig(model=model),
        sources=(SourceConfig(path=data, kind="classification", shots=shots, losses=(loss,)),),
        dev=dev,
        epochs=EPOCHS,
        queries_per_step=TEXTS_PER_STEP,
        encoder_learning_rate=5e-5,
        head_learning_rate=5e-5,
        freeze_embeddings=True,
        seed=seed,
        plot=False,
        max_window_tokens=256,
    )
