import re

import pytest
from preparation_data import ENCODER, read_lines, write_lines

from gliclass_rerank import Example, ZeroShotClassifier
from gliclass_rerank.errors import ConfigError, DataError, InputError
from gliclass_rerank.examples import ExampleStore
from gliclass_rerank.learn.data.pseudo_labels import PseudoLabelling, pseudo_label, write_pseudo_labels
from gliclass_rerank.learn.training import SourceConfig
from gliclass_rerank.learn.training.sources import load_source

LABELS = ["sport", "cooking", "weather"]
TEXTS = [
    "The striker scored twice in the final",
    "Simmer the onions in butter for ten minutes",
    "Heavy rain and thunderstorms tonight",
    "The goalkeeper saved a penalty kick",
    "Bake the bread at 220 degrees",
    "Sunny with a light breeze tomorrow",
    "The tennis player won the second set",
    "A pinch of salt makes the soup taste better",
    "Snow is expected in the mountains",
    "it is what it is",
]


@pytest.fixture(scope="module")
def classifier():
    return ZeroShotClassifier(device="cpu")


@pytest.fixture(scope="module")
def best(classifier):
    """What the model says of each text: the best label and its score."""
    return [(found.label, found.score) for (found,) in classifier(TEXTS, LABELS, multi_label=False)]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("\n\n".join(TEXTS) + "\n")
    return path


def test_only_what_the_model_is_sure_of_is_kept(classifier, best):
    # Between two scores, because a text's own changes by rounding with the texts it is scored with.
    threshold = sum(sorted(score for _, score in best)[3:5]) / 2
    kept = pseudo_label(iter(TEXTS), LABELS, classifier, PseudoLabelling(threshold=threshold))
    expected = [(index, label) for index, (label, score) in enumerate(best) if score >= threshold]
    assert [(one.index, *one.labels) for one in kept] == expected
    assert len(kept) == 6
    assert [one.score for one in kept] == pytest.approx([best[one.index][1] for one in kept], abs=1e-6)


def test_the_surest_texts_of_each_label_are_kept(classifier, best):
    kept = pseudo_label(TEXTS, LABELS, classifier, PseudoLabelling(threshold=0, per_label=2))
    expected = set()
    for label in LABELS:
        of_label = sorted((-score, index) for index, (other, score) in enumerate(best) if other == label)
        expected |= {index for _, index in of_label[:2]}
    assert {one.index for one in kept} == expected
    assert [one.index for one in kept] == sorted(expected)


def test_several_labels_may_apply(classifier):
    scores = [{one.label: one.score for one in found} for found in classifier(TEXTS, LABELS, threshold=0.0)]
    threshold = sum(sorted(max(of_text.values()) for of_text in scores)[2:4]) / 2
    settings = PseudoLabelling(threshold=threshold, multi_label=True)
    kept = pseudo_label(TEXTS, LABELS, classifier, settings)
    expected = {
        index: tuple(label for label in LABELS if of_text[label] >= threshold) for index, of_text in enumerate(scores)
    }
    assert {one.index: one.labels for one in kept} == {index: names for index, names in expected.items() if names}
    assert len(kept) == 7
    for one in kept:
        assert one.score == pytest.approx(min(scores[one.index][label] for label in one.labels), abs=1e-6)


def test_a_file_is_written_that_training_reads(classifier, best, source, tmp_path):
    target = tmp_path / "out.jsonl"
    report = write_pseudo_labels(target, source, LABELS, classifier, PseudoLabelling(threshold=0, per_label=2))
    lines = read_lines(target)
    assert all(line["all_labels"] == LABELS for line in lines)
    records = load_source(SourceConfig(path=target, kind="classification"), seed=0)
    assert [(records[i].text, *records[i].labels) for i in range(len(records))] == [
        (line["text"], best[TEXTS.index(line["text"])][0]) for line in lines
    ]
    assert (report.num_texts, report.num_repeated, report.num_confident) == (10, 0, 10)
    assert report.num_kept == len(lines) == sum(report.per_label.values())
    assert all(count <= 2 for count in report.per_label.values())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "texts.txt"]


def test_equal_texts_count_once(classifier, tmp_path):
    source = write_lines(tmp_path / "texts.jsonl", [{"text": TEXTS[0]}, {"text": TEXTS[0].upper()}, {"text": TEXTS[1]}])
    target = tmp_path / "out.jsonl"
    report = write_pseudo_labels(target, source, LABELS, classifier, PseudoLabelling(threshold=0))
    assert [line["text"] for line in read_lines(target)] == TEXTS[:2]
    assert (report.num_texts, report.num_repeated, report.num_kept) == (3, 1, 2)


def test_a_store_is_filled_and_filling_it_again_replaces_labels(classifier, source, tmp_path):
    store = ExampleStore(None, ENCODER, backend="numpy")
    store.add([Example("judged by hand", ("sport",)), Example(f"{TEXTS[0].upper()} ", ("music",))], ids=["mine", "too"])
    first = write_pseudo_labels(
        tmp_path / "a.jsonl", source, LABELS, classifier, PseudoLabelling(threshold=0), store=store
    )
    assert (first.num_stored, first.num_updated, first.num_judged) == (9, 0, 1)
    lines = {line["text"]: line for line in read_lines(tmp_path / "a.jsonl")}
    for stored in store:
        if stored.id in {"mine", "too"}:
            continue
        line = lines[stored.example.text]
        assert list(stored.example.true_labels) == line["labels"]
        assert sorted(stored.example.false_labels) == sorted(set(LABELS) - set(line["labels"]))
        assert stored.metadata == {"source": "pseudo-label", "model": classifier.name, "score": line["score"]}
    second = write_pseudo_labels(
        tmp_path / "b.jsonl", source, [*LABELS, "music"], classifier, PseudoLabelling(threshold=0), store=store
    )
    assert (second.num_stored, second.num_updated, second.num_judged) == (0, 9, 1)
    assert len(store) == 11
    assert store.get("mine").example == Example("judged by hand", ("sport",))
    assert store.get("too").example.true_labels == ("music",)


def test_nothing_is_left_behind_by_a_run_that_fails(classifier, source, tmp_path):
    store = ExampleStore(None, ENCODER, backend="numpy")
    store.close()
    with pytest.raises(InputError, match="closed"):
        write_pseudo_labels(
            tmp_path / "out.jsonl", source, LABELS, classifier, PseudoLabelling(threshold=0), store=store
        )
    with pytest.raises(DataError, match=re.escape("no label of any text has a score of at least 1; lower it")):
        write_pseudo_labels(tmp_path / "out.jsonl", source, LABELS, classifier, PseudoLabelling(threshold=1))
    assert [path.name for path in tmp_path.iterdir()] == ["texts.txt"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("texts.csv", "a\n", "must end in .jsonl, .txt, perhaps with .gz"),
        ("texts.jsonl", '{"text": "a"}\n{"query": "b"}\n', "texts.jsonl:2: `text` must be a string, got None"),
        ("texts.jsonl", '{"text": " "}\n', "texts.jsonl:1: `text` must not be blank, got ' '"),
        ("texts.jsonl", '{"text": "\\ud800"}\n', "texts.jsonl:1: `text` must be valid Unicode"),
        ("texts.txt", "\n\n", "texts.txt: holds no texts"),
    ],
)
def test_malformed_texts_are_named(classifier, tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=re.escape(message)):
        write_pseudo_labels(tmp_path / "out.jsonl", tmp_path / name, LABELS, classifier)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "`labels` must hold at least one label, got none"),
        ("sport", "`labels` must be a list of strings, got 'sport'"),
        (["sport", "sport"], "`labels` must differ, got `sport` more than once"),
    ],
)
def test_malformed_labels_are_named(classifier, labels, message):
    with pytest.raises(InputError, match=re.escape(message)):
        pseudo_label(TEXTS, labels, classifier)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.1}, "`threshold` must be between 0 and 1, got 1.1"),
        ({"per_label": 0}, "`per_label` must be at least 1, got 0"),
        ({"seed": -1}, "`seed` must be at least 0, got -1"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        PseudoLabelling(**options)


def test_progress_counts_every_text(classifier):
    counts = []
    pseudo_label(["rain"] * 65, ["sport", "weather"], classifier, on_labelled=counts.append)
    assert counts == [64, 1]
