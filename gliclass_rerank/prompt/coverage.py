"""Coverage of a tokenizer: words that it does not know, and scripts that it was not made for."""

from __future__ import annotations

import logging
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Final, NamedTuple

from gliclass_rerank.prompt.tokenizer import TextTokenizer
from gliclass_rerank.types import UnknownTokens

logger = logging.getLogger(__name__)

# Tokenizers of words give up on longer ones.
_LONGEST_WORD: Final = 100
# A vocabulary was made for a script if it has this many pieces of several letters, or of one as in Chinese.
_SEVERAL_LETTERS: Final = 100
_ONE_LETTER: Final = 2000


class CoverageReport(NamedTuple):
    """Report on one query and its passages.

    Attributes:
        unknown: Texts with unknown tokens, the query (index None) first, then passages by index.
        warnings: Sentences on texts that are mostly unknown.
    """

    unknown: tuple[UnknownTokens, ...]
    warnings: tuple[str, ...]


class Coverage:
    """Coverage of one tokenizer; thread-safe.

    Args:
        tokenizer: The tokenizer.

    Attributes:
        is_plain: Quick test for a text that needs no report: None unless all its characters are known ASCII ones and no
            word is long.
    """

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._logged: set[str] = set()
        characters = string.ascii_letters + string.digits + string.punctuation
        encoded = tokenizer.encode(characters)
        known = "".join(each for each, ids in zip(characters, encoded, strict=True) if tokenizer.unknown_id not in ids)
        words = rf"[{re.escape(known)}]{{1,{_LONGEST_WORD}}}" if known else "(?!)"
        self.is_plain: Callable[[str], object] = re.compile(rf"\s*(?:{words}(?:\s+|\Z))*", re.ASCII).fullmatch

    def report(self, query: str, passages: Sequence[str]) -> CoverageReport:
        """Report unknown tokens and foreign scripts; each kind of warning is logged once.

        Args:
            query: Query.
            passages: Passages, in the caller's order.

        Returns:
            The report.
        """
        texts = {index: text for index, text in enumerate((query, *passages), start=-1) if not self.is_plain(text)}
        encoded = dict(zip(texts, self._tokenizer.encode(list(texts.values())), strict=True))
        unknown_id = self._tokenizer.unknown_id
        unknown = tuple(
            UnknownTokens(None if index < 0 else index, len(ids), ids.count(unknown_id))
            for index, ids in encoded.items()
            if unknown_id in ids
        )
        scripts = {index: script for index, text in texts.items() if (script := self._foreign_script(text))}
        foreign = Counter(script for index, script in scripts.items() if index >= 0)
        mostly_unknown = [each.index for each in unknown if 2 * each.num_unknown > each.num_tokens]
        warnings = []
        if -1 in scripts:
            warnings.append(f"the query is mostly in a script that the model was not made for: {scripts[-1]}")
        elif None in mostly_unknown:
            warnings.append("most tokens of the query are unknown to the model")
        if foreign:
            names = ", ".join(sorted(foreign))
            found = f"{foreign.total()} of {len(passages)} passages"
            warnings.append(f"{found} are mostly in a script that the model was not made for: {names}")
        if count := sum(index is not None and index not in scripts for index in mostly_unknown):
            warnings.append(f"most tokens of {count} of {len(passages)} passages are unknown to the model")
        for warning in warnings:
            self._log_once(warning)
        return CoverageReport(unknown, tuple(warnings))

    def _log_once(self, warning: str) -> None:
        kind = re.sub(r"\d+", "N", warning)
        if kind not in self._logged:
            self._logged.add(kind)
            logger.warning("%s; this is logged once", warning)

    def _foreign_script(self, text: str) -> str | None:
        """Script of most letters, if most letters are of scripts that the vocabulary was not made for."""
        letters = [character for character in text if character.isalpha()]
        foreign = Counter(script for script in map(_script, letters) if script not in self._scripts)
        return foreign.most_common(1)[0][0] if 2 * foreign.total() > len(letters) else None

    @cached_property
    def _scripts(self) -> frozenset[str]:
        """Scripts that the vocabulary was made for."""
        one, several = Counter[str](), Counter[str]()
        for piece in self._tokenizer.pieces():
            letters = [character for character in piece if character.isalpha()]
            if letters:
                (several if len(letters) > 1 else one)[_script(letters[0])] += 1
        several_letters = {script for script, count in several.items() if count >= _SEVERAL_LETTERS}
        return frozenset(several_letters | {script for script, count in one.items() if count >= _ONE_LETTER})


@lru_cache(maxsize=1 << 14)
def _script(letter: str) -> str:
    """Name of a letter's script, such as Latin, Cyrillic or CJK."""
    name = unicodedata.name(letter, "unnamed").partition(" ")[0]
    return name if name == "CJK" else name.capitalize()
