"""Checkpoints from anywhere: odd settings, damaged files, files that are none, and attempts to run code or to fetch."""

from __future__ import annotations

import io
import json
import os
import random
import resource
import shutil
import socket
import struct
import sys
from functools import partial

import pytest
from tiny_checkpoints import change_config, tiny_bi_encoder, write_tiny_checkpoint

from gliclass_rerank import Reranker, ZeroShotClassifier
from gliclass_rerank.cascade import CascadeConfig, save_cascade
from gliclass_rerank.checkpoint.loading import load_checkpoint, save_checkpoint
from gliclass_rerank.checkpoint.location import locate
from gliclass_rerank.errors import CheckpointError, ConfigError, GLiClassRerankError
from gliclass_rerank.learn.assemble import from_cross_encoder, from_sentence_encoder

SECRET = "".join(f"{number:03}" for number in range(200))
# As JSON text, because not all of them can be written by `json.dumps`.
ODD = (
    *(
        "-1",
        "0",
        "1",
        "2",
        "3",
        "7",
        "24",
        "1000000",
        "1000000000000",
        "2147483648",
        "-9223372036854775808",
        "1" * 5000,
    ),
    *("0.5", "1.5", "24.0", "-0.0", "1e308", "1e999", "-1e999", "NaN", "Infinity", "1e-400"),
    *(
        "true",
        "false",
        "null",
        "[]",
        "[1]",
        "[[1, 2], 3]",
        "{}",
        '{"a": 1}',
        "[" * 900 + "]" * 900,
        '{"a":' * 300 + "1" + "}" * 300,
    ),
    *('""', '"x"', '"24"', '"true"', '"gelu"', '"../.."', '"/etc/passwd"', '"~/x"', '"somebody/elsewhere"'),
    *('"\\u0000"', '"\\ud800"', f'"{SECRET}"', json.dumps("x" * 100_000)),
)
# Keys that mean something to transformers, to timm or to others, wherever they stand.
FOREIGN_KEYS = (
    *("auto_map", "_name_or_path", "_attn_implementation", "attn_implementation", "backbone", "use_timm_backbone"),
    *("dtype", "quantization_config", "use_kernels", "output_hidden_states", "return_dict", "chunk_size_feed_forward"),
    *("tokenizer_class", "is_decoder", "add_cross_attention", "id2label", "num_labels", "per_layer_config", "head_dim"),
)


def bert_source(folder):
    """A stock BERT's folder, as `assemble` takes it."""
    from transformers import BertConfig, BertForSequenceClassification

    tiny = load_checkpoint(write_tiny_checkpoint(folder.with_name("tiny"), "bert"))
    values = {key: value for key, value in tiny.config.encoder_config.items() if key != "model_type"}
    BertForSequenceClassification(BertConfig(**values, num_labels=1)).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tiny.layout.tokenizer.source)
    return folder


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    root = tmp_path_factory.mktemp("originals")
    for backbone in ("bert", "modernbert", "deberta-v2"):
        write_tiny_checkpoint(root / backbone, backbone)
    save_checkpoint(tiny_bi_encoder(), root / "bi-encoder")
    save_cascade(
        CascadeConfig(first="a", second="b", rerank_depth=1),
        root / "cascade",
        {"a": root / "bert", "b": root / "deberta-v2"},
    )
    return root


@pytest.fixture
def rng():
    return random.Random(20240)


@pytest.fixture(autouse=True)
def _nothing_is_asked(monkeypatch):
    """No loading of a local folder asks the hub or the terminal for anything."""

    def refuse(*args, **kwargs):
        raise AssertionError("a local folder made the library ask for something")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    monkeypatch.setattr("builtins.input", refuse)
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdin", closed)


def use(folder):
    """Load a folder and score with it."""
    try:
        return Reranker(folder, device="cpu").rank("a bike chain squeals", ["oil the chain", "x <<LABEL>> y"])
    except ConfigError as error:
        if "bi-encoder" not in str(error):
            raise
        return ZeroShotClassifier(folder, device="cpu").logits("a bike chain squeals", ["oil", "saddle"])


def written_with(values, path, text):
    """A config as JSON text with an odd value in one place."""
    changed = json.loads(json.dumps(values))
    inner = changed
    for key in path[:-1]:
        if not isinstance(inner.get(key), dict):
            inner[key] = {}
        inner = inner[key]
    inner[path[-1]] = "@odd@"
    return json.dumps(changed).replace('"@odd@"', text)


def paths_of(values):
    """Where odd values are put: every setting, those of backbones, and keys that should have no effect."""
    nested = ("encoder_config", "label_model_config")
    paths = [(key,) for key in (*values, *FOREIGN_KEYS)]
    for key in nested:
        if isinstance(values.get(key), dict):
            paths += [(key, inner) for inner in (*values[key], *FOREIGN_KEYS, "embedding_size", "type_vocab_size")]
    return paths


def test_odd_settings_are_refused_or_have_no_effect(attack, originals, tmp_path, rng):
    for original in sorted(originals.iterdir()):
        folder = shutil.copytree(original, tmp_path / original.name)
        values = json.loads((folder / "config.json").read_text())
        tries = [(path, text) for path in paths_of(values) for text in ODD]
        for path, text in rng.sample(tries, min(attack.budget(20), len(tries))):
            (folder / "config.json").write_text(written_with(values, path, text))
            attack.attempt(
                "checkpoint: settings", partial(use, folder), shown=(original.name, path, text), secret=SECRET
            )


def damaged(content, rng):
    """Bytes as a broken disk, a broken download or a broken hand leaves them."""
    kind = rng.randrange(6)
    if kind == 0:
        return content[: rng.randrange(len(content))]
    if kind == 1:
        changed = bytearray(content)
        for _ in range(rng.choice([1, 3, 50])):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        return bytes(changed)
    if kind == 2:
        start = rng.randrange(len(content))
        return content[:start] + content[start + rng.randrange(1, 100) :]
    if kind == 3:
        start = rng.randrange(len(content))
        return content[:start] + rng.choice(ODD).encode("utf-8", "surrogatepass") + content[start:]
    if kind == 4:
        return rng.randbytes(rng.randrange(300))
    return rng.choice(
        [
            *(b"", b"\xef\xbb\xbf" + content, b"null", b"[]", b"{}", b'"x"', b"[" * 100_000, b'{"a":' * 100_000),
            *(b"1" * 5000, content.decode("latin-1").encode("utf-16"), b"\x80\x02}q\x00.", b"version https://git-lfs"),
        ]
    )


FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "model.safetensors.index.json")


def test_damaged_files_are_refused_or_read(attack, originals, tmp_path, rng):
    for original in ("bert", "deberta-v2"):
        folder = shutil.copytree(originals / original, tmp_path / original)
        index = {"weight_map": {"a": "model.safetensors"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        for name in FILES:
            content = (folder / name).read_bytes()
            for _ in range(attack.budget(10)):
                (folder / name).write_bytes(damaged(content, rng))
                attack.attempt("checkpoint: damaged file", partial(use, folder), shown=name, secret=SECRET)
            (folder / name).write_bytes(content)


def nodes(tree, path=()):
    """Paths of all parts of a JSON tree, of long lists and objects a few."""
    yield path
    items = list(tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ())
    for key, value in items[:7] + items[-2:]:
        yield from nodes(value, (*path, key))


def test_tokenizers_with_odd_parts_are_refused_or_read(attack, originals, tmp_path, rng):
    folder = shutil.copytree(originals / "bert", tmp_path / "bert")
    source = (folder / "tokenizer.json").read_text()
    paths = [path for path in nodes(json.loads(source)) if path]
    for _ in range(attack.budget(40)):
        tree = json.loads(source)
        path, inner = rng.choice(paths), tree
        for key in path[:-1]:
            inner = inner[key]
        if rng.random() < 0.2 and isinstance(inner, dict):
            del inner[path[-1]]
        else:
            inner[path[-1]] = "@odd@"
        (folder / "tokenizer.json").write_text(json.dumps(tree).replace('"@odd@"', rng.choice(ODD)))
        attack.attempt("checkpoint: tokenizer", partial(use, folder), shown=path, secret=SECRET)


CLASSES = ("BertTokenizer", "DebertaV2TokenizerFast", "T5Tokenizer", "RobertaTokenizerFast", "TokenizersBackend")
TOKENIZER_KEYS = (
    *("tokenizer_class", "auto_map", "vocab_file", "vocab", "tokenizer_file", "fast_tokenizer_files", "init_inputs"),
    *(
        "added_tokens_decoder",
        "extra_special_tokens",
        "additional_special_tokens",
        "unk_token",
        "pad_token",
        "name_or_path",
    ),
    *("extra_ids", "do_lower_case", "add_prefix_space", "model_max_length", "backend", "config", "chat_template"),
)


def test_tokenizer_settings_with_odd_values_are_refused_or_have_no_effect(attack, originals, tmp_path, rng):
    folder = shutil.copytree(originals / "bert", tmp_path / "bert")
    tries = [(name, key, text) for name in CLASSES for key in TOKENIZER_KEYS for text in ODD]
    for name, key, text in rng.sample(tries, attack.budget(25)):
        values = {"tokenizer_class": name, "pad_token": "[PAD]"}
        (folder / "tokenizer_config.json").write_text(written_with(values, (key,), text))
        attack.attempt("checkpoint: tokenizer settings", partial(use, folder), shown=(name, key, text), secret=SECRET)


def safetensors_of(header, data):
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return struct.pack("<Q", len(text)) + text + data


def test_safetensors_whose_header_lies_are_refused_or_read(attack, originals, tmp_path, rng):
    folder = shutil.copytree(originals / "bert", tmp_path / "bert")
    content = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    names = [name for name in header if name != "__metadata__"]
    for _ in range(attack.budget(40)):
        changed = json.loads(json.dumps(header))
        entry = changed[rng.choice(names)]
        kind = rng.randrange(7)
        if kind == 0:
            entry["shape"] = rng.choice(
                [[], [0], [2**62], [2**40, 2**40], [-1], [1] * 200, [1.5], "x", entry["shape"][::-1]]
            )
        elif kind == 1:
            entry["data_offsets"] = rng.choice([[0, 0], [0, 2**63], [-1, 4], [len(data), 0], [0, len(data)], [3], "x"])
        elif kind == 2:
            entry["dtype"] = rng.choice(["I8", "I64", "BOOL", "F8_E4M3", "F64", "C64", "F4", "nonsense", 3, None])
        elif kind == 3:
            changed[rng.choice(names)]["data_offsets"] = entry["data_offsets"]
        elif kind == 4:
            changed[rng.choice(names) + rng.choice([".scales", "x", "\x00", SECRET, "x" * 10_000])] = entry
        elif kind == 5:
            del changed[rng.choice(names)]
        else:
            changed["__metadata__"] = rng.choice([3, {"format": 7}, {"a": "x" * 10_000}, [], None])
        written = safetensors_of(changed, data)
        if kind == 6 and rng.random() < 0.3:
            written = struct.pack("<Q", rng.choice([0, 1, 2**32, 2**63, len(written) * 2])) + written[8:]
        (folder / "model.safetensors").write_bytes(written)
        attack.attempt("checkpoint: safetensors", partial(use, folder), shown=(kind, entry), secret=SECRET)


def test_indices_that_name_other_places_are_refused(attack, originals, tmp_path):
    folder = shutil.copytree(originals / "bert", tmp_path / "bert")
    shutil.copy(folder / "model.safetensors", tmp_path / "outside.safetensors")
    (folder / "sub").mkdir()
    places = [
        "../outside.safetensors",
        str(tmp_path / "outside.safetensors"),
        "/dev/zero",
        "~/x.safetensors",
        "",
        ".",
        "..",
    ]
    places += [
        "sub",
        "sub/../model.safetensors",
        "config.json",
        "x.safetensors\x00",
        "x" * 5000 + ".safetensors",
        SECRET,
    ]
    for place in [*places, 3, None, [], {}]:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": place}}))
        found = attack.attempt("checkpoint: index", partial(use, folder), shown=place, secret=SECRET)
        assert found is None, place


def not_a_file(path, kind, tmp_path):
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "dangling":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "circle":
        path.symlink_to(path)
    else:
        path.symlink_to(kind)


@pytest.mark.parametrize("kind", ["pipe", "folder", "dangling", "circle", "/dev/zero", "/dev/tty", "/etc/passwd", "/"])
@pytest.mark.parametrize("original", ["bert", "bi-encoder", "cascade"])
def test_what_is_no_file_of_the_folder_is_never_opened(attack, originals, tmp_path, rng, original, kind):
    files = [
        path.relative_to(originals / original) for path in sorted((originals / original).rglob("*")) if path.is_file()
    ]
    tries = [*files, "model.safetensors.index.json"] if original == "bert" else files
    for name in rng.sample(tries, min(attack.budget(2), len(tries))):
        folder = shutil.copytree(originals / original, tmp_path / str(name).replace("/", "-"))
        not_a_file(folder / name, kind, tmp_path)
        found = attack.attempt("checkpoint: no file", partial(use, folder), shown=(str(name), kind), limit_s=10)
        assert found is None or kind == "dangling", name


def test_a_link_to_a_file_of_another_folder_is_refused_and_says_so(originals, tmp_path):
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        folder = shutil.copytree(originals / "bert", tmp_path / name)
        (folder / name).unlink()
        (folder / name).symlink_to(originals / "bert" / name)
        with pytest.raises(CheckpointError, match=f"'{name}' in `.*` is a link that leads out of it"):
            use(folder)
    outside = shutil.copytree(originals / "cascade", tmp_path / "cascade")
    shutil.rmtree(outside / "a")
    (outside / "a").symlink_to(originals / "bert")
    with pytest.raises(CheckpointError, match=r"'a' in `.*` is a link that leads out of it"):
        use(outside)


def test_a_hub_download_which_is_made_of_links_is_read(originals, tmp_path):
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "0123abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted((originals / "bert").iterdir())):
        shutil.copy(path, blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")

    assert [hit.logit for hit in use(snapshot)] == [hit.logit for hit in use(originals / "bert")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read_are_refused(attack, originals, tmp_path):
    for name in FILES[:4]:
        folder = shutil.copytree(originals / "bert", tmp_path / name)
        (folder / name).chmod(0)
        assert attack.attempt("checkpoint: no file", partial(use, folder), shown=name) is None


CODE = """
import pathlib
pathlib.Path({canary!r}).write_text("run")
class Model: ...
Config = Tokenizer = Model
"""
AUTO_MAPS = (
    {"AutoModel": "code.Model", "AutoConfig": "code.Config", "AutoTokenizer": ["code.Tokenizer", "code.Tokenizer"]},
    {"AutoModel": "somebody/elsewhere--code.Model", "AutoTokenizer": ["somebody/elsewhere--code.Tokenizer", None]},
    ["code.Tokenizer", "code.Tokenizer"],
)


def with_code(folder, auto_map, *, model_type, tokenizer_class):
    canary = folder / "canary"
    for name in ("code.py", "__init__.py", "configuration_code.py", "tokenization_code.py", "model.py"):
        (folder / name).write_text(CODE.format(canary=str(canary)))
    values = json.loads((folder / "config.json").read_text())
    encoder = {**values["encoder_config"], "auto_map": auto_map, "_name_or_path": str(folder)}
    if model_type is not None:
        encoder["model_type"] = model_type
    change_config(folder, auto_map=auto_map, trust_remote_code=True, encoder_config=encoder)
    tokenizer = {"auto_map": auto_map, "trust_remote_code": True, "tokenizer_class": tokenizer_class}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return canary


@pytest.mark.parametrize("auto_map", AUTO_MAPS, ids=["own code", "another's code", "the old way"])
@pytest.mark.parametrize("model_type", [None, "blip_text_model", "code", "encoder-decoder", "auto"])
def test_no_checkpoint_runs_code_of_its_own(attack, originals, tmp_path, monkeypatch, auto_map, model_type):
    monkeypatch.chdir(tmp_path)
    for number, tokenizer_class in enumerate(
        ("PreTrainedTokenizerFast", "BertTokenizer", "Tokenizer", "code.Tokenizer")
    ):
        folder = shutil.copytree(originals / "bert", tmp_path / f"{number}")
        canary = with_code(folder, auto_map, model_type=model_type, tokenizer_class=tokenizer_class)
        for kind in (use, from_sentence_encoder, from_cross_encoder)[: attack.budget(1)]:
            attack.attempt("checkpoint: own code", partial(kind, folder), shown=(auto_map, model_type))
        assert not canary.exists()
    assert "code" not in sys.modules or not hasattr(sys.modules["code"], "Model")


def test_a_network_too_large_for_any_memory_is_refused_before_it_is_built(originals, tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number, changes in enumerate(
        [
            {"hidden_size": 32760, "num_hidden_layers": 128, "intermediate_size": 1 << 17},
            {"max_position_embeddings": 1 << 20, "hidden_size": 24 * 1024},
            {"vocab_size": 1 << 22, "hidden_size": 24 * 1024},
            {"intermediate_size": 1 << 17, "num_hidden_layers": 128},
        ]
    ):
        folder = shutil.copytree(originals / "bert", tmp_path / f"{number}")
        encoder = json.loads((folder / "config.json").read_text())["encoder_config"]
        change_config(folder, encoder_config={**encoder, **changes})
        with pytest.raises(GLiClassRerankError, match=r"do not fit its config|weights, more than"):
            load_checkpoint(folder)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000, "in KB"


def test_sources_of_an_assembled_checkpoint_are_refused_or_read(attack, tmp_path, rng):
    folder = bert_source(tmp_path / "source")
    contents = {name: (folder / name).read_bytes() for name in ("config.json", "model.safetensors", "tokenizer.json")}
    values = json.loads(contents["config.json"])
    for assemble in (from_sentence_encoder, from_cross_encoder):
        attack.attempt("assemble: sources", partial(assemble, folder), shown="as it is")
        for _ in range(attack.budget(15)):
            (folder / "config.json").write_text(written_with(values, (rng.choice(list(values)),), rng.choice(ODD)))
            attack.attempt("assemble: sources", partial(assemble, folder), shown="config.json", secret=SECRET)
        (folder / "config.json").write_bytes(contents["config.json"])
        for name, content in contents.items():
            for _ in range(attack.budget(4)):
                (folder / name).write_bytes(damaged(content, rng))
                attack.attempt("assemble: sources", partial(assemble, folder), shown=name, secret=SECRET)
            (folder / name).write_bytes(content)


ODD_NAMES = (
    *(
        "",
        " ",
        "\x00",
        "a\x00b",
        "x" * 300,
        "x" * 100_000,
        SECRET,
        "\ud800",
        "~nobody-of-this-name/x",
        "/",
        "/dev/zero",
    ),
    *("//", "a//b", "../..", "é" * 200, "https://example.org/x", 3, 1.5, True, b"bert", [], {}, object()),
)


@pytest.mark.parametrize("name", ODD_NAMES, ids=range(len(ODD_NAMES)))
def test_odd_names_are_refused(attack, monkeypatch, name):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *args, **kwargs: pytest.fail("asked the hub"))
    found = attack.attempt("checkpoint: names", lambda: locate(name), shown=name, secret=SECRET)
    assert found is None or found.is_dir()
    attack.attempt("checkpoint: names", lambda: load_checkpoint(name), shown=name, secret=SECRET)
