"""Token plans: texts to token sequences that fit, planned in tokens before anything is concatenated.

When ranking, markers survive, the middle of a query is cut if the caller allows it, and passages are cut or split into
chunks. When classifying, labels and prompt survive and the text is cut. Examples are cut to their budget. Every cut is
reported; upstream's right truncation silently loses queries or candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Generic, Literal, Protocol, TypeVar

from gliclass_rerank.errors import WindowOverflowError
from gliclass_rerank.prompt.budget import fit_examples
from gliclass_rerank.prompt.chunks import Chunk, chunked
from gliclass_rerank.prompt.cutting import (
    cut_ends,
    label_overflow,
    label_sequences,
    least_room,
    shorten,
    without_excess,
)
from gliclass_rerank.prompt.layout import Frame, PromptLayout, ScoringRequest
from gliclass_rerank.prompt.tokenizer import TextTokenizer
from gliclass_rerank.prompt.windows import pack
from gliclass_rerank.settings import LongPassages, LongQuery
from gliclass_rerank.types import Blocks, TokenIds, Truncation, Window

TruncateSide = Literal["candidates", "text"]
CandidateEncoder = Callable[[Sequence[str]], list[TokenIds]]

RequestT = TypeVar("RequestT", Window, Blocks)


@dataclass(frozen=True)
class TokenPlan(Generic[RequestT]):
    """Token sequences of one request.

    Attributes:
        requests: Model inputs: windows, or at most one `Blocks`.
        members: Positions of each input's candidates, in marker order: in `chunks` if there are any, else in
            `ScoringRequest.candidates`.
        chunks: Chunks, if a candidate was split, by candidate; else empty.
        truncated: Truncated candidates, ascending by index.
        text_truncation: Truncation of the text (index 0), or None.
        truncated_examples: Truncated or dropped examples, ascending by index.
        num_tokens: Tokens that encoders read, without padding.
    """

    requests: tuple[RequestT, ...] = ()
    members: tuple[tuple[int, ...], ...] = ()
    chunks: tuple[Chunk, ...] = ()
    truncated: tuple[Truncation, ...] = ()
    text_truncation: Truncation | None = None
    truncated_examples: tuple[Truncation, ...] = ()
    num_tokens: int = 0


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

    @property
    def encode_candidates(self) -> CandidateEncoder:
        """Function from candidates' texts to their token ids."""
        ...

    def plan(
        self,
        request: ScoringRequest,
        *,
        truncate_side: TruncateSide,
        candidate_ids: Sequence[TokenIds] | None = None,
    ) -> TokenPlan[RequestT]:
        """Plan the token sequences of a request.

        Args:
            request: Request with at least one candidate.
            truncate_side: Side that is cut for lack of room.
            candidate_ids: What `encode_candidates` gave for the candidates; None to encode them here.

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
        long_query: Treatment of a query that leaves passages less than a quarter of the window.
        long_passages: Treatment of passages longer than the room beside the query.
    """

    layout: PromptLayout
    max_window_tokens: int
    window_tokens: Callable[[int], int]
    label_tokenizer: TextTokenizer | None = None
    max_label_tokens: int = 0
    max_example_tokens: int | None = None
    long_query: LongQuery = "error"
    long_passages: LongPassages = "cut"
    sees_companions: ClassVar[bool] = True

    @property
    def encode_candidates(self) -> CandidateEncoder:
        """Function from candidates' texts to their token ids."""
        return self.layout.tokenizer.encode if self.label_tokenizer is None else self.label_tokenizer.encode_sequences

    def plan(
        self,
        request: ScoringRequest,
        *,
        truncate_side: TruncateSide,
        candidate_ids: Sequence[TokenIds] | None = None,
    ) -> TokenPlan[Window]:
        """Plan the windows of a request."""
        label_ids: list[TokenIds] = []
        chunks: tuple[Chunk, ...] = ()
        truncated: tuple[Truncation, ...] = ()
        candidates = self.encode_candidates(request.candidates) if candidate_ids is None else list(candidate_ids)
        request, cut_examples = fit_examples(self.layout, request, self._example_room(request, truncate_side))
        if self.label_tokenizer is None:
            frame = self.layout.joint(request)
        else:
            frame = self.layout.fused(request)
            is_split = self.long_passages == "best_chunk" and truncate_side == "candidates"
            label_ids, chunks, truncated = label_sequences(
                self.label_tokenizer, request.candidates, candidates, self.max_label_tokens, is_split=is_split
            )
            candidates = [()] * len(label_ids)
        if truncate_side == "text":
            frame, groups, lost = self._fit_text(frame, candidates)
        else:
            frame, lost = self._fit_query(frame)
            groups, candidates, found, cut = self._fit_candidates(frame, request.candidates, candidates)
            truncated, chunks = cut or truncated, found or chunks
        windows = tuple(
            self._window(frame, [candidates[i] for i in group], [label_ids[i] for i in group] if label_ids else [])
            for group in groups
        )
        return TokenPlan(
            requests=windows,
            members=tuple(map(tuple, groups)),
            chunks=chunks,
            truncated=truncated,
            text_truncation=lost,
            truncated_examples=cut_examples,
            num_tokens=sum(len(each.token_ids) + sum(map(len, each.candidate_ids)) for each in windows),
        )

    def _example_room(self, request: ScoringRequest, truncate_side: TruncateSide) -> int:
        if not request.examples:
            return 0
        bare = replace(request, examples=())
        frame = self.layout.joint(bare) if self.label_tokenizer is None else self.layout.fused(bare)
        room = self.max_window_tokens - self._overhead(frame)
        if truncate_side == "candidates":
            room -= self._least_for_passages
        else:
            labels = (
                [()] * len(request.candidates)
                if self.label_tokenizer
                else self.layout.tokenizer.encode(request.candidates)
            )
            room -= min(sum(1 + len(ids) for ids in labels), (room + frame.num_truncatable) // 2)
            room = max(room, (room + frame.num_truncatable) // 2)
        return least_room(room, self.max_example_tokens)

    @property
    def _least_for_passages(self) -> int:
        return self.max_window_tokens // 4

    def _overhead(self, frame: Frame) -> int:
        tokenizer = self.layout.tokenizer
        special = len(tokenizer.prefix_ids) + len(tokenizer.suffix_ids)
        return special + len(frame.head.ids) + 1 + len(frame.tail.ids)

    def _fit_query(self, frame: Frame) -> tuple[Frame, Truncation | None]:
        """Cut a query's middle if passages would have too little of the window."""
        excess = self._overhead(frame) + self._least_for_passages - self.max_window_tokens
        if self.long_query == "error" or not 0 < excess < frame.num_truncatable:
            return frame, None
        return frame.without(excess, in_middle=True), Truncation(0, frame.num_truncatable, excess)

    def _fit_candidates(
        self, frame: Frame, texts: Sequence[str], candidates: Sequence[TokenIds]
    ) -> tuple[list[range], list[TokenIds], tuple[Chunk, ...], tuple[Truncation, ...]]:
        overhead = self._overhead(frame)
        room = self.max_window_tokens - overhead - 1
        if room < 1:
            raise WindowOverflowError(
                f"the query takes {overhead} of the window's {self.max_window_tokens} tokens "
                "and leaves no room for a passage"
            )
        chunks: tuple[Chunk, ...] = ()
        if self.long_passages == "best_chunk" and max(map(len, candidates)) > room:
            tokenizer = self.layout.tokenizer
            candidates, chunks = chunked(tokenizer, texts, candidates, room, tokenizer.encode)
        kept, truncated = cut_ends(candidates, room, chunks)
        target = min(self.max_window_tokens, self.window_tokens(overhead))
        groups = pack([1 + len(ids) for ids in kept], max(1, target - overhead))
        return groups, kept, chunks, truncated

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
        shortened, lost = shorten(frame, left)
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
        long_query: Treatment of a query longer than a block.
        long_passages: Treatment of passages longer than theirs.
    """

    layout: PromptLayout
    max_window_tokens: int
    max_passage_tokens: int | None = None
    max_example_tokens: int | None = None
    long_query: LongQuery = "error"
    long_passages: LongPassages = "cut"
    sees_companions: ClassVar[bool] = False

    @property
    def encode_candidates(self) -> CandidateEncoder:
        """Function from candidates' texts to their token ids."""
        return self.layout.tokenizer.encode

    def plan(
        self,
        request: ScoringRequest,
        *,
        truncate_side: TruncateSide,
        candidate_ids: Sequence[TokenIds] | None = None,
    ) -> TokenPlan[Blocks]:
        """Plan the blocks of a request."""
        cut_examples: tuple[Truncation, ...] = ()
        if request.examples:
            room = self._example_room(request, truncate_side)
            request, cut_examples = fit_examples(self.layout, request, room)
        text, lost, tokenizer = self.layout.query_block(request), None, self.layout.tokenizer
        excess = len(tokenizer.prefix_ids) + len(text.ids) + len(tokenizer.suffix_ids) - self.max_window_tokens
        if excess > 0:
            text, lost = without_excess(
                text, excess, self.max_window_tokens, is_query=truncate_side == "candidates", long_query=self.long_query
            )
        query = (*tokenizer.prefix_ids, *text.ids, *tokenizer.suffix_ids)
        blocks, chunks, truncated = self.candidate_blocks(
            request.candidates, candidate_ids, truncate_side=truncate_side
        )
        if truncated and truncate_side == "text":
            raise label_overflow(truncated[0])
        num_tokens, members = len(query) + sum(map(len, blocks)), tuple(range(len(blocks)))
        return TokenPlan((Blocks(query, blocks),), (members,), chunks, truncated, lost, cut_examples, num_tokens)

    def candidate_blocks(
        self,
        texts: Sequence[str],
        candidate_ids: Sequence[TokenIds] | None = None,
        *,
        truncate_side: TruncateSide,
    ) -> tuple[tuple[TokenIds, ...], tuple[Chunk, ...], tuple[Truncation, ...]]:
        """Make query-independent blocks of candidates, with the chunks if any was split, and report those cut.

        `candidate_ids` is what `encode_candidates` gave for the texts; None to encode them here.
        """
        suffix, label_id = self.layout.tokenizer.suffix_ids, self.layout.label_id
        assert label_id is not None, "checked when the checkpoint was loaded"
        longest = self.max_window_tokens
        if truncate_side == "candidates":
            longest = min(longest, self.max_passage_tokens or longest)
        room = max(longest - 1 - len(suffix), 0)
        tokenizer, chunks = self.layout.tokenizer, tuple[Chunk, ...]()
        encoded = tokenizer.encode(texts) if candidate_ids is None else list(candidate_ids)
        if max(map(len, encoded), default=0) <= room:
            return tuple((label_id, *ids, *suffix) for ids in encoded), (), ()
        if self.long_passages == "best_chunk" and truncate_side == "candidates":
            encoded, chunks = chunked(tokenizer, texts, encoded, room, tokenizer.encode)
        kept, truncated = cut_ends(encoded, room, chunks)
        return tuple((label_id, *ids, *suffix) for ids in kept), chunks, truncated

    def _example_room(self, request: ScoringRequest, truncate_side: TruncateSide) -> int:
        tokenizer, bare = self.layout.tokenizer, self.layout.query_block(replace(request, examples=()))
        room = self.max_window_tokens - len(tokenizer.prefix_ids) - len(tokenizer.suffix_ids) - len(bare.ids)
        if truncate_side == "text":
            room = max(room, (room + bare.num_truncatable) // 2)
        return least_room(room, self.max_example_tokens)
