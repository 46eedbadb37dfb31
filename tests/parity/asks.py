"""Prompt forms: keyword arguments of `ZeroShotClassifier.logits` that differ from the plain question."""

from tiny import CORPUS

FEW_SHOT = [
    {"text": "The brakes squeal.", "labels": ["noise", "a complaint about brakes"]},
    {"text": "The saddle is too low", "true_labels": ["comfort"]},
]
# At most one false label each: upstream's order of several comes from a set.
RAC = [
    {"text": "The brakes squeal.", "true_labels": ["noise", "repair"], "all_labels": ["noise", "praise", "repair"]},
    {"text": "Patch the inner tube", "true_labels": ["repair"], "all_labels": ["repair"]},
]
TREE = {"kind": {"complaint": ["noise", "safety"], "praise": "praise"}, "topic": ["saddle", "chain"]}
WORDS = " ".join(CORPUS).split()
ASKS = {
    "plain": {},
    "one label": {"labels": ["noise"]},
    "two labels": {"labels": ["noise", "praise"]},
    "30 labels": {"labels": [f"{WORDS[number]} {WORDS[-number]}" for number in range(30)]},
    "an empty label": {"labels": ["noise", "", "praise"]},
    "equal labels": {"labels": ["noise", "praise", "noise"]},
    "a hierarchy": {"labels": TREE},
    "a prompt": {"prompt": "Classify the text by topic: "},
    "few-shot examples": {"examples": FEW_SHOT, "example_format": "few_shot"},
    "retrieved examples": {"examples": RAC, "example_format": "rac"},
    "a prompt and few-shot examples": {"prompt": "Classify: ", "examples": FEW_SHOT, "example_format": "few_shot"},
    "a prompt and retrieved examples": {"prompt": "Classify: ", "examples": RAC, "example_format": "rac"},
    "an empty text": {"text": ""},
    "odd spaces": {"text": "  the chain \n\n slips\t ", "labels": [" noise ", "a\nb"], "prompt": " two  spaces "},
    "a long text": {"text": " ".join(CORPUS * 3)},
}
