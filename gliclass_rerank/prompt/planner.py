"""Token plans: texts to token sequences that fit, planned in tokens before anything is concatenated.

When ranking, query and markers survive and passages are cut; when classifying, labels and prompt survive and the text
is cut. Examples are cut to their budget. Every cut is reported; upstream's right truncation silently loses queries or
candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Generic, Literal, Protocol, TypeVar

from gliclass_rerank.errors import InputError, WindowOverflowError
from gliclass_rerank.prompt.budget import fit_examples
from gliclass_rerank.prompt.layout import Encoded, Frame, PromptLayout, ScoringRequest
from gliclass_rerank.prompt.tokenizer import TextTokenizer
from gliclass_rerank.prompt.windows import pack
from gliclass_rerank.types import Blocks, TokenIds, Truncation, Window

TruncateSide = Literal["candidates", "text"]

RequestT = TypeVar("RequestT", Window, Blocks)


@dataclass(frozen=True)
class TokenPlan(Generic[RequestT]):
    """Token sequences of one request.

    Attributes:
        requests: Model inputs: windows, or at most one `Blocks`.
        members: Positions in `ScoringRequest.candidates` of each input's candidates, in marker order.
        truncated: Truncated candidates, ascending by index.
        text_truncation: Truncation of the text (index 0), or None.
        truncated_examples: Truncated or dropped examples, ascending by index.
    """

    requests: tuple[RequestT, ...] = ()
    members: tuple[tuple[int, ...], ...] = ()
    truncated: tuple[Truncation, ...] = ()
    text_truncation: Truncation | None = None
    truncated_examples: tuple[Truncation, ...] = ()


class Planner(Protocol[RequestT]):
    """Planner of requests; thread-safe."""

    @property
    def layout(self) -> PromptLayout:
        """Prompt layout."""
        ...

    @property
    def max_window_tokens(self) -> int:
        """Length of the longest sequence."""
        ...

    @property
    def sees_companions(self) -> bool:
        """True if candidates of one sequence attend to each other."""
        ...

    def plan(self, request: ScoringRequest, *, truncate_side: TruncateSide) -> TokenPlan[RequestT]:
        """Plan the token sequences of a request.

        Args:
            request: Request with at least one candidate.
            truncate_side: Side that is cut for lack of room.

        Returns:
            The plan.

        Raises:
            WindowOverflowError: The untruncatable part leaves no room.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class WindowPlanner:
    """Planner of windows with several candidates: the `joint` plan and the fused bi-encoder.

    Attributes:
        layout: Prompt layout.
        max_window_tokens: Maximum window length.
        window_tokens: Target length when ranking, from the tokens each window repeats. Labels are packed to
            `max_window_tokens`, because public checkpoints were trained with all of them in view.
        label_tokenizer: Tokenizer of the label encoder (fused bi-encoder only).
        max_label_tokens: Longest sequence of the label encoder.
        max_example_tokens: Maximum tokens of all examples, further limited to the room beside the query and a quarter
            of the window for passages, or, when classifying a long text, half of the room beside the labels.
    """

    layout: PromptLayout
    max_window_tokens: int
    window_tokens: Callable[[int], int]
    label_tokenizer: TextTokenizer | None = None
    max_label_tokens: int = 0
    max_example_tokens: int | None = None
    sees_companions: ClassVar[bool] = True

    def plan(self, request: ScoringRequest, *, truncate_side: TruncateSide) -> TokenPlan[Window]:
        """Plan the windows of a request."""
        label_ids: list[TokenIds] = []
        truncated: tuple[Truncation, ...] = ()
        request, cut_examples = fit_examples(self.layout, request, self._example_room(request, truncate_side))
        if self.label_tokenizer is None:
            frame, candidates = self.layout.joint(request), self.layout.tokenizer.encode(request.candidates)
        else:
            frame = self.layout.fused(request)
            candidates = [()] * len(request.candidates)
            label_ids, truncated = _label_sequences(self.label_tokenizer, request.candidates, self.max_label_tokens)
        if truncate_side == "text":
            frame, groups, lost = self._fit_text(frame, candidates)
        else:
            groups, candidates, cut = self._fit_candidates(frame, candidates)
            truncated, lost = cut or truncated, None
        return TokenPlan(
            requests=tuple(
                self._window(frame, [candidates[i] for i in group], [label_ids[i] for i in group] if label_ids else [])
                for group in groups
            ),
            members=tuple(map(tuple, groups)),
            truncated=truncated,
            text_truncation=lost,
            truncated_examples=cut_examples,
        )

    def _example_room(self, request: ScoringRequest, truncate_side: TruncateSide) -> int:
        if not request.examples:
            return 0
        bare = replace(request, examples=())
        frame = self.layout.joint(bare) if self.label_tokenizer is None else self.layout.fused(bare)
        room = self.max_window_tokens - self._overhead(frame)
        if truncate_side == "candidates":
            room -= self.max_window_tokens // 4
        else:
            labels = (
                [()] * len(request.candidates)
                if self.label_tokenizer
                else self.layout.tokenizer.encode(request.candidates)
            )
            room -= min(sum(1 + len(ids) for ids in labels), (room + frame.num_truncatable) // 2)
            room = max(room, (room + frame.num_truncatable) // 2)
        return _least(room, self.max_example_tokens)

    def _overhead(self, frame: Frame) -> int:
        tokenizer = self.layout.tokenizer
        special = len(tokenizer.prefix_ids) + len(tokenizer.suffix_ids)
        return special + len(frame.head.ids) + 1 + len(frame.tail.ids)

    def _fit_candidates(
        self, frame: Frame, candidates: Sequence[TokenIds]
    ) -> tuple[list[range], list[TokenIds], tuple[Truncation, ...]]:
        overhead = self._overhead(frame)
        room = self.max_window_tokens - overhead - 1
        if room < 1:
            raise WindowOverflowError(
                f"the query takes {overhead} of the window's {self.max_window_tokens} tokens "
                "and leaves no room for a passage"
            )
        kept, truncated = _cut(candidates, room)
        target = min(self.max_window_tokens, self.window_tokens(overhead))
        groups = pack([1 + len(ids) for ids in kept], max(1, target - overhead))
        return groups, kept, truncated

    def _fit_text(self, frame: Frame, labels: Sequence[TokenIds]) -> tuple[Frame, list[range], Truncation | None]:
        """Put all labels in one window if the text keeps half of the room, else use as few windows as that takes."""
        room = self.max_window_tokens - self._overhead(frame) + frame.num_truncatable
        lengths = [1 + len(ids) for ids in labels]
        groups = pack(lengths, max(room - frame.num_truncatable, room // 2, 1))
        longest = max(sum(lengths[i] for i in group) for group in groups)
        left = room - longest
        if left < min(1, frame.num_truncatable):
            raise WindowOverflowError(
                f"prompt, examples and labels take {self.max_window_tokens - left} of the window's "
                f"{self.max_window_tokens} tokens and leave no room for the text"
            )
        shortened, lost = _shorten(frame, left)
        return shortened, groups, lost

    def _window(self, frame: Frame, candidates: Sequence[TokenIds], label_ids: Sequence[TokenIds]) -> Window:
        tokenizer, label_id, sep_id = self.layout.tokenizer, self.layout.label_id, self.layout.sep_id
        assert label_id is not None, "checked when the checkpoint was loaded"
        assert sep_id is not None, "checked when the checkpoint was loaded"
        ids = [*tokenizer.prefix_ids, *frame.head.ids]
        markers = []
        for candidate in candidates:
            markers.append(len(ids))
            ids += [label_id, *candidate]
        text_start = len(ids)
        ids += [sep_id, *frame.tail.ids, *tokenizer.suffix_ids]
        return Window(tuple(ids), tuple(markers), text_start, tuple(label_ids))


@dataclass(frozen=True, kw_only=True)
class SharedQueryPlanner:
    """Planner of the `shared_query` plan: one block for the query, one per candidate.

    Attributes:
        layout: Prompt layout.
        max_window_tokens: Maximum block length.
        max_passage_tokens: Maximum length of a passage's block; None for no other limit. Labels are exempt.
        max_example_tokens: Maximum tokens of all examples, further limited to the room beside the query, or, when
            classifying a long text, half of the block.
    """

    layout: PromptLayout
    max_window_tokens: int
    max_passage_tokens: int | None = None
    max_example_tokens: int | None = None
    sees_companions: ClassVar[bool] = False

    def plan(self, request: ScoringRequest, *, truncate_side: TruncateSide) -> TokenPlan[Blocks]:
        """Plan the blocks of a request."""
        cut_examples: tuple[Truncation, ...] = ()
        if request.examples:
            room = self._example_room(request, truncate_side)
            request, cut_examples = fit_examples(self.layout, request, room)
        text, lost, tokenizer = self.layout.query_block(request), None, self.layout.tokenizer
        excess = len(tokenizer.prefix_ids) + len(text.ids) + len(tokenizer.suffix_ids) - self.max_window_tokens
        if excess > 0:
            text, lost = _without(text, excess, self.max_window_tokens, truncate_side)
        query = (*tokenizer.prefix_ids, *text.ids, *tokenizer.suffix_ids)
        blocks, truncated = self.candidate_blocks(request.candidates, truncate_side=truncate_side)
        if truncated and truncate_side == "text":
            raise _label_overflow(truncated[0])
        return TokenPlan((Blocks(query, blocks),), (tuple(range(len(blocks))),), truncated, lost, cut_examples)

    def candidate_blocks(
        self, texts: Sequence[str], *, truncate_side: TruncateSide
    ) -> tuple[tuple[TokenIds, ...], tuple[Truncation, ...]]:
        """Encode candidates to query-independent blocks, and report those truncated."""
        suffix, label_id = self.layout.tokenizer.suffix_ids, self.layout.label_id
        assert label_id is not None, "checked when the checkpoint was loaded"
        longest = self.max_window_tokens
        if truncate_side == "candidates":
            longest = min(longest, self.max_passage_tokens or longest)
        room = max(longest - 1 - len(suffix), 0)
        encoded = self.layout.tokenizer.encode(texts)
        truncated = tuple(
            Truncation(index, len(ids), len(ids) - room) for index, ids in enumerate(encoded) if len(ids) > room
        )
        return tuple((label_id, *ids[:room], *suffix) for ids in encoded), truncated

    def _example_room(self, request: ScoringRequest, truncate_side: TruncateSide) -> int:
        tokenizer, bare = self.layout.tokenizer, self.layout.query_block(replace(request, examples=()))
        room = self.max_window_tokens - len(tokenizer.prefix_ids) - len(tokenizer.suffix_ids) - len(bare.ids)
        if truncate_side == "text":
            room = max(room, (room + bare.num_truncatable) // 2)
        return _least(room, self.max_example_tokens)


@dataclass(frozen=True, kw_only=True)
class BiEncoderPlanner:
    """Planner of separate sequences for the text and each label.

    Attributes:
        layout: Prompt layout.
        max_window_tokens: Longest sequence of the text encoder.
        label_tokenizer: Tokenizer of the label encoder.
        max_label_tokens: Longest sequence of the label encoder.
    """

    layout: PromptLayout
    max_window_tokens: int
    label_tokenizer: TextTokenizer
    max_label_tokens: int
    sees_companions: ClassVar[bool] = False

    def plan(self, request: ScoringRequest, *, truncate_side: TruncateSide) -> TokenPlan[Blocks]:
        """Plan the sequences of a request."""
        if request.examples:
            raise InputError("`examples` have no place in the architecture 'bi-encoder', which never reads them")
        bare, lost, tokenizer = self.layout.bare_text(request), None, self.layout.tokenizer
        excess = len(tokenizer.prefix_ids) + len(bare.ids) + len(tokenizer.suffix_ids) - self.max_window_tokens
        if excess > 0:
            bare, lost = _without(bare, excess, self.max_window_tokens, truncate_side)
        text = (*tokenizer.prefix_ids, *bare.ids, *tokenizer.suffix_ids)
        labels, truncated = _label_sequences(self.label_tokenizer, request.candidates, self.max_label_tokens)
        if truncated and truncate_side == "text":
            raise _label_overflow(truncated[0])
        return TokenPlan((Blocks(text, tuple(labels)),), (tuple(range(len(labels))),), truncated, lost)


def _least(room: int, limit: int | None) -> int:
    return room if limit is None else min(room, limit)


def _label_overflow(label: Truncation) -> WindowOverflowError:
    return WindowOverflowError(
        f"label {label.index} takes {label.num_tokens} tokens, {label.num_lost} more than fit its window"
    )


def _without(text: Encoded, excess: int, limit: int, truncate_side: TruncateSide) -> tuple[Encoded, Truncation]:
    """Remove `excess` tokens from a text's truncatable part."""
    num_tokens = text.num_truncatable
    if truncate_side == "candidates" or excess >= num_tokens:
        raise WindowOverflowError(f"the query takes {limit + excess} tokens, more than the window's {limit}")
    return text.without(excess), Truncation(0, num_tokens, excess)


def _shorten(frame: Frame, left: int) -> tuple[Frame, Truncation | None]:
    total = frame.num_truncatable
    if total <= left:
        return frame, None
    return frame.without(total - left), Truncation(index=0, num_tokens=total, num_lost=total - left)


def _cut(candidates: Sequence[TokenIds], room: int) -> tuple[list[TokenIds], tuple[Truncation, ...]]:
    truncated = tuple(
        Truncation(index, len(ids), len(ids) - room) for index, ids in enumerate(candidates) if len(ids) > room
    )
    return [ids[:room] for ids in candidates], truncated


def _label_sequences(
    tokenizer: TextTokenizer, texts: Sequence[str], max_tokens: int
) -> tuple[list[TokenIds], tuple[Truncation, ...]]:
    """Whole sequences for a label encoder; cut sequences keep their closing special tokens."""
    kept, truncated = _cut(tokenizer.encode_sequences(texts), max_tokens)
    closing = tokenizer.suffix_ids
    for cut in truncated:
        kept[cut.index] = kept[cut.index][: max_tokens - len(closing)] + closing
    return kept, truncated
