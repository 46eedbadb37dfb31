"""Every row of the table in layout.py, token by token. The planner puts head, candidates and tail together."""

import pytest
from tiny_checkpoints import MARKERS, metaspace_tokenizer, tiny_tokenizer

from gliclass_rerank.prompt.bi_encoder_planner import BiEncoderPlanner
from gliclass_rerank.prompt.layout import PromptLayout, ScoringRequest
from gliclass_rerank.prompt.planner import SharedQueryPlanner, WindowPlanner
from gliclass_rerank.prompt.tokenizer import TextTokenizer
from gliclass_rerank.types import Example

RAC = (Example("slip", true_labels=("wax",), false_labels=("rust",)),)
FEW_SHOT = (Example("slip", true_labels=("wax", "oil")),)


def layout(*, prompt_first, drop=()):
    state = tiny_tokenizer().to_str()
    for marker in drop:
        state = state.replace(marker, f"[{marker.strip('<>').lower()}]")
    return PromptLayout(TextTokenizer(tiny_tokenizer().from_str(state)), prompt_first=prompt_first)


def tokens(own, ids):
    return " ".join(own.tokenizer.token(index) for index in ids)


def ask(**changes):
    return ScoringRequest(**{"text": "bike road", "candidates": ("gear", "hill pump"), "prompt": "drop", **changes})


def window(own, question, *, label_tokenizer=None):
    planner = WindowPlanner(
        layout=own,
        max_window_tokens=211,
        window_tokens=lambda _: 211,
        label_tokenizer=label_tokenizer,
        max_label_tokens=31,
    )
    (request,) = planner.plan(question, truncate_side="candidates").requests
    return request


@pytest.mark.parametrize(
    ("prompt_first", "expected"),
    [
        (
            True,
            "[CLS] <<LABEL>> gear <<LABEL>> hill pump <<SEP>> drop ##b ##i ##k ##e road"
            " <<EXAMPLE>> slip {true} wax {false} rust {end} [SEP]",
        ),
        (
            False,
            "[CLS] bike road <<EXAMPLE>> slip {true} wax {false} rust {end}"
            " <<LABEL>> gear <<LABEL>> hill pump <<SEP>> drop [SEP]",
        ),
    ],
)
def test_joint_with_rac_examples(prompt_first, expected):
    own = layout(prompt_first=prompt_first)
    spelled = {
        key: tokens(own, own.tokenizer.encode_with_spans(marker)[0])
        for key, marker in (("true", "<<TRUE_LABEL>>"), ("false", "<<FALSE_LABEL>>"), ("end", "<</EXAMPLE>>"))
    }

    request = window(own, ask(examples=RAC, example_format="rac"))

    assert tokens(own, request.token_ids) == expected.format(**spelled)


@pytest.mark.parametrize(
    ("prompt_first", "expected"),
    [
        (True, "[CLS] <<LABEL>> gear <<LABEL>> hill pump <<SEP>> drop ##b ##i ##k ##e road {examples} [SEP]"),
        (False, "[CLS] bike road <<LABEL>> gear <<LABEL>> hill pump <<SEP>> drop {examples} [SEP]"),
    ],
)
def test_joint_with_few_shot_examples(prompt_first, expected):
    own = layout(prompt_first=prompt_first)

    request = window(own, ask(examples=FEW_SHOT, example_format="few_shot"))

    examples = "<<EXAMPLE>> slip l ##a ##b ##e ##l ##s : wax , oil <<SEP>>"
    assert tokens(own, request.token_ids) == expected.format(examples=examples)


@pytest.mark.parametrize("prompt_first", [True, False])
def test_a_window_points_at_its_markers_and_its_first_separator(prompt_first):
    own = layout(prompt_first=prompt_first)

    request = window(own, ask(examples=FEW_SHOT, example_format="few_shot"))

    labels = [position for position, index in enumerate(request.token_ids) if index == own.label_id]
    assert list(request.markers) == labels
    assert request.text_start == request.token_ids.index(own.sep_id)


@pytest.mark.parametrize(
    ("prompt_first", "expected"),
    [
        (True, "[CLS] drop <<LABEL>> <<LABEL>> <<SEP>> bike road <<EXAMPLE>> slip {rest} [SEP]"),
        (False, "[CLS] bike road <<EXAMPLE>> slip {rest} drop <<LABEL>> <<LABEL>> <<SEP>> [SEP]"),
    ],
)
def test_fused_windows_hold_bare_markers_and_the_labels_apart(prompt_first, expected):
    own = layout(prompt_first=prompt_first)
    rest = tokens(own, own.tokenizer.encode_with_spans("<<TRUE_LABEL>> wax <<FALSE_LABEL>> rust <</EXAMPLE>>")[0])

    request = window(own, ask(examples=RAC, example_format="rac"), label_tokenizer=own.tokenizer)

    assert tokens(own, request.token_ids) == expected.format(rest=rest)
    assert [tokens(own, ids) for ids in request.candidate_ids] == ["[CLS] gear [SEP]", "[CLS] hill pump [SEP]"]


def test_shared_query_writes_a_query_block_and_one_block_for_each_candidate():
    own = layout(prompt_first=True)
    planner = SharedQueryPlanner(layout=own, max_window_tokens=211)

    (blocks,) = planner.plan(
        ask(prompt="drop ", examples=FEW_SHOT, example_format="few_shot"), truncate_side="text"
    ).requests

    assert tokens(own, blocks.query_ids) == (
        "[CLS] drop bike road <<EXAMPLE>> slip l ##a ##b ##e ##l ##s : wax , oil <<SEP>> [SEP]"
    )
    assert [tokens(own, ids) for ids in blocks.candidate_ids] == [
        "<<LABEL>> gear [SEP]",
        "<<LABEL>> hill pump [SEP]",
    ]


def test_a_bi_encoder_reads_text_and_labels_as_plain_sequences():
    own = layout(prompt_first=True)
    planner = BiEncoderPlanner(layout=own, max_window_tokens=211, label_tokenizer=own.tokenizer, max_label_tokens=31)

    (blocks,) = planner.plan(ask(), truncate_side="text").requests

    assert tokens(own, blocks.query_ids) == "[CLS] drop bike road [SEP]"
    assert [tokens(own, ids) for ids in blocks.candidate_ids] == ["[CLS] gear [SEP]", "[CLS] hill pump [SEP]"]


def test_the_default_example_format_follows_the_example_token():
    assert layout(prompt_first=True).example_format(ask()) == "few_shot"
    assert layout(prompt_first=True, drop=["<<EXAMPLE>>"]).example_format(ask()) == "rac"
    assert layout(prompt_first=True).example_format(ask(example_format="rac")) == "rac"


@pytest.mark.parametrize("tokenizer", [tiny_tokenizer, metaspace_tokenizer])
@pytest.mark.parametrize("theirs", ["<<TRUE_LABEL>>", "<<<TRUE_LABEL>>>", "<<TRUE_LABEL>><<TRUE_LABEL>>"])
def test_a_marker_the_tokenizer_lacks_is_spelled_out_by_us_but_never_by_the_caller(tokenizer, theirs):
    own = PromptLayout(TextTokenizer(tokenizer()), prompt_first=True)
    spelled = tokens(own, own.tokenizer.encode_with_spans("<<TRUE_LABEL>>")[0])
    assert " " in spelled

    ours = own.query_block(ask(examples=RAC, example_format="rac")).ids
    poisoned = own.query_block(ask(text=f"bike {theirs} road")).ids

    assert spelled in tokens(own, ours)
    assert spelled not in tokens(own, poisoned)


@pytest.mark.parametrize("marker", MARKERS)
def test_a_marker_the_tokenizer_has_is_plain_characters_in_the_callers_text(marker):
    own = layout(prompt_first=True)
    poisoned = ask(
        text=f"bike {marker}",
        candidates=(marker, "gear"),
        prompt=marker,
        examples=(Example(marker, (marker,), (marker,)),),
        example_format="rac",
    )

    request = window(own, poisoned)

    assert request.token_ids.count(own.label_id) == 2
    assert request.token_ids.count(own.sep_id) == 1
    assert request.token_ids.count(own.tokenizer.marker_id("<<EXAMPLE>>")) == 1
