"""Tokenizers from an untrusted checkpoint folder.

`tokenizer.json` is usually complete. Some known transformers classes rebuild themselves from it and other files; these
are loaded by transformers from a copy of the folder without references to code, files or repositories
(docs/decisions/0024-what-a-checkpoint-may-do.md).
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tokenizers import Tokenizer

from gliclass_rerank._imports import TRANSFORMERS_LOCK
from gliclass_rerank.errors import CheckpointError, shown
from gliclass_rerank.files.atomic_write import own_file, read_json
from gliclass_rerank.prompt.tokenizer import TextTokenizer, failures_as

_JSON: Final = "tokenizer.json"
_CONFIG: Final = "tokenizer_config.json"
_OTHER_JSON: Final = ("special_tokens_map.json", "added_tokens.json")
_VOCABULARIES: Final = (
    _JSON,
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
)
# With or without `Fast` at the end. All are transformers' own, over the tokenizers library.
_CLASSES: Final = frozenset(
    {
        "BertTokenizer",
        "CamembertTokenizer",
        "DebertaV2Tokenizer",
        "DistilBertTokenizer",
        "ElectraTokenizer",
        "GemmaTokenizer",
        "PreTrainedTokenizer",
        "RobertaTokenizer",
        "T5Tokenizer",
        "TokenizersBackend",
        "XLMRobertaTokenizer",
    }
)
# Settings that affect tokens. The rest includes `auto_map`, `vocab_file`, `fast_tokenizer_files` and other paths.
_SETTINGS: Final = frozenset(
    {
        "add_bos_token",
        "add_eos_token",
        "add_prefix_space",
        "added_tokens_decoder",
        "additional_special_tokens",
        "bos_token",
        "cls_token",
        "do_lower_case",
        "eos_token",
        "extra_ids",
        "extra_special_tokens",
        "legacy",
        "mask_token",
        "pad_token",
        "sep_token",
        "split_by_punct",
        "strip_accents",
        "tokenize_chinese_chars",
        "tokenizer_class",
        "trim_offsets",
        "unk_id",
        "unk_token",
    }
)
_MOST_EXTRA_IDS: Final = 1000
_MOST_TOKENS: Final = 1 << 22
# All ids are checked only if one may be too large: listing them takes a third of the loading time.
_LARGE: Final = re.compile(r"(?<![.\d])\d{7}")


def load_tokenizer(folder: Path) -> TextTokenizer:
    """Load a tokenizer from a local folder.

    Args:
        folder: Folder with `tokenizer.json` or another format that transformers can convert.

    Returns:
        The tokenizer.

    Raises:
        CheckpointError: The tokenizer is missing, damaged or of an unsupported class.
    """
    settings = read_json(folder, _CONFIG)
    if settings is None:
        settings = {}
    if not isinstance(settings, dict):
        raise CheckpointError(f"`{folder / _CONFIG}` must hold a JSON object, got {shown(settings)}")
    return TextTokenizer(read_tokenizer(folder) if _json_says_all(folder, settings) else _rebuilt(folder, settings))


def read_tokenizer(folder: Path) -> Tokenizer:
    """Read a folder's `tokenizer.json`, truncation and padding included.

    Args:
        folder: Checkpoint folder.

    Returns:
        The tokenizer.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    path = own_file(folder, _JSON)
    if path is None:
        raise CheckpointError(f"`{folder}` holds neither {_JSON} nor a {_CONFIG} naming a class")
    with failures_as(lambda reason: CheckpointError(f"`{path}` is not a tokenizer: {reason}")):
        text = path.read_text(encoding="utf-8")
        tokenizer = Tokenizer.from_str(text)
        if _LARGE.search(text):
            _check_ids(tokenizer)
    return tokenizer


def _check_ids(tokenizer: Tokenizer) -> None:
    """Refuse ids beyond any table: the library writes a vocabulary by counting up to the highest one."""
    highest = max(tokenizer.get_vocab().values(), default=0)
    if highest > _MOST_TOKENS:
        raise CheckpointError(f"a tokenizer's ids must be at most {_MOST_TOKENS}, got {highest}")


def _json_says_all(folder: Path, settings: Mapping[str, Any]) -> bool:  # Any: JSON
    """True if no class is named, or the generic one with nothing but its padding token."""
    if "tokenizer_class" not in settings:
        return True
    # As saved by this library.
    is_generic = settings["tokenizer_class"] == "PreTrainedTokenizerFast" and own_file(folder, _JSON) is not None
    return is_generic and settings.keys() <= {"tokenizer_class", "pad_token"}


def _rebuilt(folder: Path, settings: Mapping[str, Any]) -> Tokenizer:  # Any: JSON
    name, extra_ids = settings["tokenizer_class"], settings.get("extra_ids", 0)
    if not isinstance(name, str) or name.removesuffix("Fast") not in _CLASSES:
        raise CheckpointError(
            f"the tokenizer class {shown(name)} in `{folder}` is not one that is known here; "
            f"save it as {_JSON} and leave the class out"
        )
    if type(extra_ids) is not int or not 0 <= extra_ids <= _MOST_EXTRA_IDS:
        raise CheckpointError(f"`extra_ids` in `{folder / _CONFIG}` must be at most 1000, got {shown(extra_ids)}")
    with (
        tempfile.TemporaryDirectory(prefix="gliclass-rerank-") as copy,
        failures_as(lambda reason: CheckpointError(f"`{folder}` holds no loadable tokenizer: {reason}")),
        TRANSFORMERS_LOCK,
    ):
        _copy(folder, Path(copy), settings)
        from transformers import AutoTokenizer, PretrainedConfig  # lazy, because importing it takes a second

        # An empty config, because the copy has none.
        loaded = AutoTokenizer.from_pretrained(
            copy, config=PretrainedConfig(), local_files_only=True, trust_remote_code=False
        )
    backend = getattr(loaded, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise CheckpointError(f"the tokenizer in `{folder}` has no fast implementation; convert it to {_JSON}")
    _check_ids(backend)
    return backend


def _copy(folder: Path, target: Path, settings: Mapping[str, Any]) -> None:  # Any: JSON
    kept = {key: value for key, value in settings.items() if key in _SETTINGS}
    for name, values in ((_CONFIG, kept), *((name, read_json(folder, name)) for name in _OTHER_JSON)):
        if values is not None:
            (target / name).write_text(json.dumps(values), encoding="utf-8")
    for name in _VOCABULARIES:
        if (path := own_file(folder, name)) is not None:
            shutil.copyfile(path, target / name)
