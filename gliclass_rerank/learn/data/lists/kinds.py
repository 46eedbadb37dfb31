"""The kinds of lists: who asks, in what form, and which passages are searched. Edit here to have other lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gliclass_rerank.learn.data.lists.forms import Form

# All lists are made in so many blocks; a block is 20,000 lists or so.
NUM_BLOCKS: Final = 16

# Into how many parts the passages of a collection are divided. Few for small ones, else their lists would lack hard
# negatives. A divisor of the number of blocks; 4 unless said.
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
    """Lists of one sort.

    Attributes:
        name: Its name.
        target: Which mixture of teachers is right about it, a key of `mixtures.MIXTURES`.
        asked: Collections whose judged queries ask, files of questions, or corpora (`<name>/corpus`) of which titles
            or beginnings are taken.
        form: Of the queries.
        pool: Sources that are searched.
        passage_form: Of what is found.
        share: Share of the queries that is taken, in (0, 1].
    """

    name: str
    target: str
    asked: tuple[str, ...]
    form: Form = Form.QUESTION
    pool: tuple[str, ...]
    passage_form: Form = Form.PASSAGE
    share: float = 1.0


# Packed files hold positions in this tuple: add at the end, and rename or remove none.
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


def num_shards(collection: str) -> int:
    """Into how many parts a collection is divided."""
    return SHARDS.get(collection, _OTHERS)
