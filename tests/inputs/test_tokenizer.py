"""Piece by piece must give what the whole prompt gives in one go, and text must never become a special token."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tiny_checkpoints import MARKERS, SPECIAL, WORDS, byte_level_tokenizer, metaspace_tokenizer, tiny_tokenizer
from transformers import AutoTokenizer, PretrainedConfig

import gliclass_rerank
from gliclass_rerank.checkpoint.loading import DEFAULT_MODEL
from gliclass_rerank.errors import CheckpointError
from gliclass_rerank.prompt.tokenizer import TextTokenizer, check_markers
from gliclass_rerank.prompt.tokenizer_files import load_tokenizer

FAMILIES = {"word_piece": tiny_tokenizer, "byte_level": byte_level_tokenizer, "metaspace": metaspace_tokenizer}

TEXTS = (
    "chain slip",
    " chain slip",
    "chain slip ",
    "  chain   slip  ",
    "",
    " ",
    "\n",
    "chain\nslip\t",
    "x",
    "naïve café",
    "日本語",
    "<chain>",
    "\ue000chain\ue000",
)


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def stock(request):
    return FAMILIES[request.param]()


@pytest.fixture(scope="module")
def own(stock):
    return TextTokenizer(stock)


def plain_ids(stock, text):
    return tuple(stock.encode(text, add_special_tokens=False).ids)


@pytest.mark.parametrize("text", TEXTS)
def test_a_piece_between_markers_has_the_ids_it_has_in_the_whole_prompt(stock, own, text):
    label, sep = (stock.token_to_id(marker) for marker in MARKERS[:2])

    whole = plain_ids(stock, f"<<LABEL>>{text}<<LABEL>>oil<<SEP>>")

    piece, other = own.encode([text, "oil"])
    assert (label, *piece, label, *other, sep) == whole


@pytest.mark.parametrize("text", TEXTS)
def test_a_piece_that_opens_the_sequence_has_the_ids_it_has_there(stock, own, text):
    ids, _ = own.encode_with_spans(text, at_start=True)

    assert (*ids, stock.token_to_id("<<SEP>>")) == plain_ids(stock, f"{text}<<SEP>>")


@pytest.mark.parametrize("text", TEXTS)
def test_a_whole_sequence_has_the_ids_the_stock_tokenizer_gives(stock, own, text):
    (ids,) = own.encode_sequences([text])

    assert ids == tuple(stock.encode(text).ids)


@pytest.mark.parametrize("text", TEXTS)
def test_encoding_with_spans_gives_the_ids_of_encoding_without(own, text):
    assert own.encode_with_spans(text)[0] == own.encode([text])[0]


def test_spans_cover_the_characters_of_each_token(own):
    text = "chain slip wax"

    _, spans = own.encode_with_spans(text)

    covered = [text[start:end].strip() for start, end in spans]
    assert "".join(covered) == "chainslipwax"
    assert spans == sorted(spans)


@pytest.mark.parametrize("literal", [*SPECIAL, *MARKERS])
def test_special_tokens_written_out_in_a_text_stay_characters(stock, own, literal):
    special = {stock.token_to_id(name) for name in (*SPECIAL, *MARKERS)} - {stock.token_to_id("[UNK]")}
    poisoned = f"oil {literal} wax{literal}"

    pieces = [
        own.encode([poisoned])[0],
        own.encode_with_spans(poisoned)[0],
        own.encode_with_spans(poisoned, at_start=True)[0],
    ]
    (framed,) = own.encode_sequences([poisoned])

    assert all(special.isdisjoint(ids) for ids in pieces)
    assert special.isdisjoint(framed[1:-1])


def test_markers_that_were_added_as_plain_tokens_stay_characters_in_text():
    stock = tiny_tokenizer()
    state = json.loads(stock.to_str())
    for token in state["added_tokens"]:
        token["special"] = False
    own = TextTokenizer(stock.from_str(json.dumps(state)))

    assert own.marker_id("<<LABEL>>") == stock.token_to_id("<<LABEL>>")
    assert own.marker_id("<<LABEL>>") not in own.encode(["oil <<LABEL>> wax"])[0]


def test_the_sentinel_never_leaks_into_the_ids(stock, own):
    known = stock.get_vocab_size()

    for text in (*TEXTS, *WORDS):
        assert all(index < known for index in own.encode([text])[0])


def test_the_frame_of_a_sequence_is_known(stock, own):
    assert own.prefix_ids == (stock.token_to_id("[CLS]"),)
    assert own.suffix_ids == (stock.token_to_id("[SEP]"),)


def test_marker_ids_are_found_and_ordinary_tokens_are_no_markers(stock, own):
    assert own.marker_id("<<LABEL>>") == stock.token_to_id("<<LABEL>>")
    assert own.marker_id("<<NONE>>") is None
    assert own.token(stock.token_to_id("<<SEP>>")) == "<<SEP>>"


def test_truncation_and_padding_of_the_file_have_no_effect():
    stock = tiny_tokenizer()
    stock.enable_truncation(5)
    stock.enable_padding(length=17)
    before = stock.to_str()
    own = TextTokenizer(stock)

    assert len(own.encode([" ".join(WORDS)])[0]) == len(WORDS)
    assert len(own.encode_sequences(["oil"])[0]) == 3
    assert stock.to_str() == before
    assert own.source == before


def test_sixteen_threads_get_the_ids_of_one(own):
    texts = [" ".join(WORDS[:count]) for count in range(1, 51)]
    expected = [own.encode([text])[0] for text in texts]

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda text: own.encode([text])[0], texts * 16))

    assert found == expected * 16


def test_markers_are_checked_against_the_config():
    own = TextTokenizer(tiny_tokenizer())
    index = own.marker_id("<<LABEL>>")

    check_markers(own, {"<<LABEL>>": index, "<<NONE>>": 7}, optional=["<<NONE>>"])
    with pytest.raises(CheckpointError, match=f"the tokenizer gives <<LABEL>> the id {index}, the config says 7"):
        check_markers(own, {"<<LABEL>>": 7})
    with pytest.raises(CheckpointError, match="the tokenizer gives <<NONE>> the id None, the config says 7"):
        check_markers(own, {"<<NONE>>": 7})


def test_a_folder_with_a_bare_tokenizer_file_is_loaded(tmp_path, stock, own):
    stock.save(str(tmp_path / "tokenizer.json"))

    assert load_tokenizer(tmp_path).encode(TEXTS) == own.encode(TEXTS)


def test_a_folder_that_names_transformers_class_is_loaded(tmp_path, stock, own):
    stock.save(str(tmp_path / "tokenizer.json"))
    values = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(values))

    assert load_tokenizer(tmp_path).encode(TEXTS) == own.encode(TEXTS)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds neither tokenizer\.json nor a tokenizer_config\.json naming"):
        load_tokenizer(tmp_path)


def test_a_checkpoint_saved_here_is_read_as_transformers_reads_it():
    folder = Path(gliclass_rerank.__file__).parent / "bundled" / DEFAULT_MODEL
    theirs = AutoTokenizer.from_pretrained(str(folder), config=PretrainedConfig())

    assert load_tokenizer(folder).source == TextTokenizer(theirs.backend_tokenizer).source
