"""Kinds of lists: queries, their form, and the passages searched. Edit here for other lists."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from gliclass_rerank.errors import ConfigError, listed, shown
from gliclass_rerank.learn.data.lists.forms import Form

# Number of blocks; a block has about 20,000 lists.
NUM_BLOCKS: Final = 16

# Shards per collection. Few for small ones, whose lists would lack hard negatives otherwise. Divides the number
# of blocks; default 4.
SHARDS: Final[Mapping[str, int]] = {
    "squad": 16,
    "squad_sent": 16,
    "pycode": 16,
    "definitions": 16,
    "factbook": 16,
    "medquad": 8,
    "debian_descriptions": 8,
    "selqa": 8,
    "openstax": 8,
    "quotesum": 1,
}
_OTHERS: Final = 4

_WIKI = ("squad/corpus", "boolq/corpus", "clapnq/corpus", "nq_oracle/corpus", "nq_qed/corpus", "quotesum/corpus")
_WEB = ("squad", "boolq", "clapnq", "nq_oracle", "nq_qed", "quotesum")
_ASKED = ("nq_open", "clapnq_train", "webquestions_test", "query_wellformedness")
_TECHNICAL = ("docsections", "desktop_help", "tldr", "se_small", "debian_descriptions")
_TERMS = ("definitions", "openstax", "factbook")


def _corpora(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{name}/corpus" for name in names)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Kind of lists.

    Attributes:
        name: Name.
        target: Mixture of teachers, a key of `mixtures.MIXTURES`.
        asked: Sources of queries: judged collections, files of questions, or corpora (`<name>/corpus`) for titles and
            beginnings.
        form: Form of the queries.
        pool: Sources that are searched.
        passage_form: Form of the passages.
        share: Share of the queries used, in (0, 1].
    """

    name: str
    target: str
    asked: tuple[str, ...]
    form: Form = Form.QUESTION
    pool: tuple[str, ...]
    passage_form: Form = Form.PASSAGE
    share: float = 1.0


# Packed files hold positions in this tuple: append only, and rename or remove none.
KINDS: Final = (
    Kind(name="web", target="web", asked=_WEB, pool=_WIKI),
    Kind(name="web-asked", target="web", asked=_ASKED, pool=_WIKI, share=0.7),
    Kind(name="web-keywords", target="web", asked=_WEB, form=Form.KEYWORDS, pool=_WIKI, share=0.25),
    Kind(name="web-reworded", target="web", asked=_WEB, form=Form.REWORDED, pool=_WIKI, share=0.2),
    Kind(
        name="sentences",
        target="web",
        asked=("squad_sent", "selqa"),
        pool=_corpora(("squad_sent", "selqa")),
        passage_form=Form.BODY,
        share=0.5,
    ),
    Kind(name="medical", target="technical", asked=("medquad",), pool=_corpora(("medquad",)), share=0.6),
    Kind(
        name="medical-asked",
        target="similar",
        asked=("bing_coronavirus_jan2020",),
        pool=_corpora(("medquad",)),
        share=0.6,
    ),
    Kind(
        name="medical-long",
        target="technical",
        asked=("medquad",),
        form=Form.REWORDED,
        pool=_corpora(("medquad",)),
        passage_form=Form.LONG,
        share=0.4,
    ),
    Kind(name="technical", target="technical", asked=_TECHNICAL, pool=_corpora(_TECHNICAL), share=0.6),
    Kind(
        name="technical-reworded",
        target="similar",
        asked=("desktop_help", "tldr", "se_small"),
        form=Form.REWORDED,
        pool=_corpora(_TECHNICAL),
    ),
    Kind(
        name="technical-long",
        target="technical",
        asked=("docsections", "se_small"),
        pool=_corpora(("docsections", "se_small")),
        passage_form=Form.LONG,
    ),
    Kind(name="code", target="technical", asked=("pycode",), pool=_corpora(("pycode",)), share=0.7),
    Kind(name="terms", target="technical", asked=_TERMS, pool=_corpora(_TERMS), share=0.6),
    Kind(
        name="similar",
        target="similar",
        asked=(*_ASKED, "bing_coronavirus_jan2020"),
        pool=(*_ASKED, "bing_coronavirus_jan2020", "squad/queries", "se_small/queries"),
        passage_form=Form.QUESTION,
        share=0.6,
    ),
    Kind(
        name="papers",
        target="technical",
        asked=("mag_paper_field",),
        pool=("mag_paper_field",),
        passage_form=Form.QUESTION,
    ),
    Kind(
        name="titles",
        target="technical",
        asked=_corpora(("openstax", "boolq", "nq_oracle")),
        form=Form.TITLE,
        pool=_corpora(("openstax", "boolq", "nq_oracle")),
        passage_form=Form.BODY,
        share=0.4,
    ),
    Kind(
        name="beginnings-wiki",
        target="technical",
        asked=_corpora(("squad", "boolq", "nq_oracle")),
        form=Form.BEGINNING,
        pool=_WIKI,
        share=0.2,
    ),
    Kind(
        name="beginnings-technical",
        target="technical",
        asked=_corpora(("medquad", "docsections", "se_small")),
        form=Form.BEGINNING,
        pool=_corpora(("medquad", "docsections", "se_small")),
        share=0.2,
    ),
    Kind(name="joined-web", target="technical", asked=("squad",), form=Form.JOINED, pool=_WIKI, share=0.2),
    Kind(
        name="joined-technical",
        target="technical",
        asked=("desktop_help",),
        form=Form.JOINED,
        pool=_corpora(_TECHNICAL),
    ),
)


def kinds_named(names: Collection[str] | None) -> frozenset[str]:
    """Names of these kinds, of all if None; an unknown one is a `ConfigError`."""
    known = frozenset(kind.name for kind in KINDS)
    for unknown in sorted({*(names or ())} - known):
        raise ConfigError(f"a kind must be one of {listed(known)}, got {shown(unknown)}")
    return known if names is None else frozenset(names)


def num_shards(collection: str) -> int:
    """Number of shards of a collection."""
    return SHARDS.get(collection, _OTHERS)
