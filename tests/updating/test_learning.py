"""Learning from a log, from its signals to a version that loads."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from feedback_data import clicked_log, judged_log, random_log
from safetensors.torch import load_file
from tiny_checkpoints import write_tiny_checkpoint

from gliclass_rerank import CheckpointError, ConfigError, DataError, InputError, Reranker
from gliclass_rerank.cascade import CascadeConfig, save_cascade
from gliclass_rerank.cli import main
from gliclass_rerank.feedback import FeedbackLog
from gliclass_rerank.files.digests import folder_digest
from gliclass_rerank.learn import LearnSettings, learn, rollback, versions
from gliclass_rerank.learn.updating import learning

# Tiny networks know nothing that they could forget.
FAST = {"learning_rate": 3e-3, "head_learning_rate": 3e-3, "kl_weight": 0.1, "max_regression": 1.0, "epochs": 5.0}
SETTINGS = LearnSettings(**FAST, held_out=0.3)
HASTY = LearnSettings(**{**FAST, "epochs": 0.2})
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def start(tiny_folders):
    return tiny_folders["bert"]


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    return {
        "judged": judged_log(folder / "judged.db", 120),
        "random": random_log(folder / "random.db", 120),
        "clicked": clicked_log(folder / "clicked.db", 20),
    }


@pytest.fixture(scope="module")
def learned(tmp_path_factory, start, logs):
    return learn(logs["judged"], out=tmp_path_factory.mktemp("learned") / "model", start=start, settings=SETTINGS)


@pytest.mark.slow
def test_a_model_that_learned_what_users_like_is_accepted_and_loads(learned, start):
    judged, public = learned.verdict.comparisons

    assert learned.verdict.reasons == ()
    assert learned.is_current
    assert judged.new > judged.old + 0.05
    assert public.num_queries > 0
    assert [version.is_current for version in versions(learned.model)] == [False, True]
    ranking = Reranker(learned.model, device="cpu").rank("chain oil", ["chain oil cold", "rust", "pad"])
    assert ranking[0].index == 0
    assert not (learned.model / "learning").exists()


@pytest.mark.slow
def test_the_start_is_the_first_version_and_stays_as_it_was(learned, start):
    assert folder_digest(learned.model / "0001") == folder_digest(start)
    notes = versions(learned.model)[1].notes
    assert (notes["parent"], notes["signals"]) == ("0001", 240)
    assert notes["verdict"]["is_accepted"] is True
    assert "chain" not in json.dumps(notes)


@pytest.mark.slow
def test_only_the_upper_layers_and_the_head_learn(tmp_path, start, logs):
    settings = LearnSettings(**{**FAST, "epochs": 0.2, "trained_layers": 1})
    found = learn(logs["clicked"], out=tmp_path / "model", start=start, settings=settings, force=True)

    before, after = (load_file(found.model / name / WEIGHTS) for name in ("0001", "0002"))
    changed = {name for name, tensor in after.items() if not (before[name].half() == tensor).all()}
    assert changed
    assert not any("embeddings" in name or "layer.0." in name or "layer.1." in name for name in changed)


def test_what_users_like_by_chance_is_refused_and_kept_aside(tmp_path, start, logs, capsys):
    out = tmp_path / "model"
    command = ["learn", "--log", str(logs["random"]), "--out", str(out), "--start", str(start), "--held-out", "0.3"]

    assert main([*command, "--epochs", "0.5"]) == 1

    printed = capsys.readouterr()
    assert "error: refused: it is not better with 95% confidence" in printed.err
    assert f"gliclass-rerank rollback {out} --to 0002" in printed.err
    assert "version     0002: " in printed.out
    assert [version.is_current for version in versions(out)] == [True, False]
    assert rollback(out, "0002").is_current


@pytest.mark.slow
def test_a_forced_version_is_used_and_learning_goes_on_from_it(tmp_path, start, logs):
    out = tmp_path / "model"
    first = learn(logs["clicked"], out=out, start=start, settings=HASTY, force=True)
    second = learn(logs["clicked"], out=out, settings=HASTY)

    assert (first.is_current, second.is_current) == (True, False)
    assert versions(out)[2].notes["parent"] == "0002"
    assert "only " in second.verdict.reasons[0]
    assert second.num_signals == 20


def test_of_a_cascade_the_first_network_learns(tmp_path, start, logs, tiny_folders):
    cascade = tmp_path / "cascade"
    other = write_tiny_checkpoint(tmp_path / "other", "bert")
    save_cascade(CascadeConfig(first="a", second="b", rerank_depth=3), cascade, {"a": start, "b": other})

    found = learn(logs["clicked"], out=tmp_path / "model", start=cascade, settings=HASTY, force=True)

    new = found.model / "0002"
    assert json.loads((new / "config.json").read_text())["rerank_depth"] == 3
    assert folder_digest(new / "second") == folder_digest(other)
    assert folder_digest(new / "first") != folder_digest(start)
    assert len(Reranker(found.model, device="cpu").rank("chain", ["oil", "chain", "rim", "pad"])) == 4


@pytest.mark.slow
def test_the_policy_gradient_is_another_objective(tmp_path, start, logs):
    settings = LearnSettings(**{**FAST, "epochs": 0.5}, objective="policy", propensities="none")

    found = learn(logs["clicked"], out=tmp_path / "model", start=start, settings=settings)

    assert folder_digest(found.model / "0001") != folder_digest(found.model / "0002")


def test_a_stopped_learning_goes_on_and_another_is_refused(tmp_path, start, logs, monkeypatch):
    whole = learn(logs["clicked"], out=tmp_path / "whole", start=start, settings=HASTY)
    monkeypatch.setattr(learning, "judge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    out = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        learn(logs["clicked"], out=out, start=start, settings=HASTY)
    monkeypatch.undo()
    assert Reranker(out, device="cpu").rank("chain", ["oil"])[0].index == 0

    with pytest.raises(ConfigError, match="holds an unfinished learning with another `epochs`"):
        learn(logs["clicked"], out=out, start=start, settings=LearnSettings(**FAST))
    learn(logs["clicked"], out=out, start=start, settings=HASTY)

    assert (out / "0002" / WEIGHTS).read_bytes() == (whole.model / "0002" / WEIGHTS).read_bytes()


@pytest.mark.slow
def test_stages_are_reported(tmp_path, start, logs):
    seen = []
    learn(
        logs["clicked"],
        out=tmp_path / "model",
        start=start,
        settings=HASTY,
        on_progress=lambda *each: seen.append(each),
    )

    assert list(dict.fromkeys(stage for stage, *_ in seen)) == ["scoring", "training", "measuring"]
    assert all(1 <= done <= total for _, done, total in seen)
    assert seen[-1][1] == seen[-1][2]


# Wrong input


def test_a_log_that_is_missing_is_not_made(tmp_path):
    with pytest.raises(InputError, match="`log` must be a feedback log, and there is no file"):
        learn(tmp_path / "missing.db", out=tmp_path / "model")
    assert not (tmp_path / "missing.db").exists()


def test_an_empty_log_and_one_without_texts_are_refused_before_anything_is_written(tmp_path, start):
    with FeedbackLog(tmp_path / "empty.db") as log, pytest.raises(DataError, match="nothing to learn from: 0 signals"):
        learn(log, out=tmp_path / "model", start=start)
    with FeedbackLog(tmp_path / "private.db", keep_texts=False) as log:
        log.judged("Larry is stuck", relevant=["Open the tray."])
        with pytest.raises(DataError, match=r"and 1 on rankings without texts \(`log_texts=False`\)"):
            learn(log, out=tmp_path / "model", start=start)
    assert not (tmp_path / "model").exists()


def test_a_folder_that_holds_something_else_is_refused(tmp_path, start, logs):
    (tmp_path / "letters.txt").touch()
    with pytest.raises(ConfigError, match="is not empty and holds no versions"):
        learn(logs["clicked"], out=tmp_path, start=start)
    with pytest.raises(CheckpointError, match="there is no folder"):
        learn(logs["clicked"], out=tmp_path / "model", start=tmp_path / "missing")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("objective", "ppo", "`objective` must be one of `listwise`, `policy`, got 'ppo'"),
        ("held_out", 0.0, "`held_out` must be above 0 and below 1, got 0.0"),
        ("epochs", "3", "`epochs` must be a number, got '3'"),
        ("learning_rate", 0.0, "`learning_rate` must be above 0, got 0.0"),
        ("max_passages", 1, "`max_passages` must be at least 2, got 1"),
        ("kl_weight", float("nan"), "`kl_weight` must be a number, got nan"),
    ],
)
def test_wrong_settings_are_refused(name, value, message):
    with pytest.raises(ConfigError, match=message):
        LearnSettings(**{name: value})


# A real process, really killed

_SCRIPT = """
import json, sys
from gliclass_rerank.learn import LearnSettings, learn
log, out, start, settings = sys.argv[1:]
learn(log, out=out, start=start, settings=LearnSettings(**json.loads(settings)))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
@pytest.mark.parametrize("sign", ["plan.json", "run/states/step-000050", "candidate"])
def test_a_learning_killed_at_any_stage_ends_with_the_weights_of_an_uninterrupted_one(tmp_path, start, logs, sign):
    settings = {**FAST, "epochs": 6.0, "queries_per_step": 2}
    whole = learn(logs["judged"], out=tmp_path / "whole", start=start, settings=LearnSettings(**settings))
    out = tmp_path / "parts"
    arguments = [str(logs["judged"]), str(out), str(start), json.dumps(settings)]
    process = subprocess.Popen([sys.executable, "-c", _SCRIPT, *arguments])
    deadline = time.monotonic() + 600
    while not (out / "learning" / sign).exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it had ended by itself"
    assert [version.name for version in versions(out)] == ["0001"]

    learn(logs["judged"], out=out, start=start, settings=LearnSettings(**settings))

    assert (out / "0002" / WEIGHTS).read_bytes() == (whole.model / "0002" / WEIGHTS).read_bytes()
