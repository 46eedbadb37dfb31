"""A text too long for the window loses the same tokens as upstream's, as long as upstream loses nothing else."""

from dataclasses import replace

import pytest
from tiny import CORPUS, LABELS, TOKENIZERS, tiny_tokenizer
from upstream import check_same

LONG = " ".join(CORPUS) + " café 日本語"
FEW = list(LABELS[:2])


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize(("prompt", "cuts"), [(None, (1, 2)), ("Classify: ", (7, 40))])
def test_a_long_text_is_cut_at_its_end(pair, tokenizer, prompt, cuts):
    built = pair(tokenizer=tiny_tokenizer(tokenizer), prompt_first=True, pooling_strategy="last")
    untouched = built.upstream.logits(LONG, FEW, prompt=prompt)
    length = built.upstream.inputs(LONG, FEW, prompt=prompt)["input_ids"].shape[1]
    for max_tokens in (length - cut for cut in cuts):
        upstream = replace(built.upstream, max_length=max_tokens)
        expected = upstream.logits(LONG, FEW, prompt=prompt)
        assert expected != untouched
        classifier = built.classifier(max_window_tokens=max_tokens)
        check_same(classifier.logits(LONG, FEW, prompt=prompt), expected)


def test_a_text_that_just_fits_is_not_cut(pair, caplog):
    built = pair(prompt_first=True)
    length = built.upstream.inputs(LONG, FEW)["input_ids"].shape[1]
    ours = built.classifier(max_window_tokens=length).logits(LONG, FEW)
    check_same(ours, built.upstream.logits(LONG, FEW))
    assert not caplog.records


def test_a_cut_is_logged_with_its_size(pair, caplog):
    built = pair(prompt_first=True)
    length = built.upstream.inputs(LONG, FEW)["input_ids"].shape[1]
    built.classifier(max_window_tokens=length - 5).logits(LONG, FEW)
    assert "lost 5 of its" in caplog.text


def test_the_text_of_a_bi_encoder_is_cut_at_its_end(biencoder):
    built = biencoder("bi-encoder", pooling_strategy="avg", label_words="word_level")
    labels = ["noise", "praise", "repair"]
    expected = replace(built.upstream, max_length=31).logits(LONG, labels)
    check_same(built.classifier(max_window_tokens=31).logits(LONG, labels), expected)
