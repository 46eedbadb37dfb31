"""Who sees whom in packed sequences of any lengths, and kernels that agree about it."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gliclass_rerank.model.backbones.packed_attention import LayerView, VarlenAttention
from gliclass_rerank.model.backbones.packed_reference import dense_attention, plain_kernel, visible_keys
from gliclass_rerank.model.packing import Packer
from gliclass_rerank.types import Blocks, Window

HEADS, HEAD = 2, 4
quick = settings(max_examples=30, deadline=None, derandomize=True)
lengths = st.integers(1, 9)
lists = st.lists(st.tuples(lengths, st.lists(lengths, min_size=1, max_size=4)), min_size=1, max_size=4)
long_lists = st.lists(
    st.tuples(st.integers(129, 140), st.lists(lengths, min_size=1, max_size=3)), min_size=1, max_size=2
)


def packed(asked, *, start=None, reads=None):
    packer = Packer(
        device=torch.device("cpu"),
        example_id=99,
        candidate_start=start,
        query_reads=reads,
        candidate_reads=reads,
        embed_marker=True,
    )
    blocks = [Blocks((1,) * query, tuple((2,) * length for length in candidates)) for query, candidates in asked]
    return packer.blocks(blocks)


def tokens_of(asked):
    """Query number, candidate number or None, and place of each token, in packed order."""
    queries = [(number, None, place) for number, (query, _) in enumerate(asked) for place in range(query)]
    return queries + [
        (number, candidate, place)
        for number, (_, candidates) in enumerate(asked)
        for candidate, length in enumerate(candidates)
        for place in range(length)
    ]


def attended(attend, batch, view, seed=0):
    generator = torch.Generator().manual_seed(seed)
    num_rows = batch.num_tokens if view.rows.index is None else len(view.rows.index)
    query = torch.randn(num_rows, HEADS, HEAD, generator=generator)
    return attend(query, torch.randn(batch.num_tokens, 2, HEADS, HEAD, generator=generator), batch, view)


@quick
@given(asked=lists, shares=st.booleans(), reach=st.none() | st.integers(1, 6))
def test_a_token_sees_its_own_sequence_and_if_it_is_a_candidates_its_query_within_reach(asked, shares, reach):
    batch, tokens = packed(asked).sequences, tokens_of(asked)

    own, of_query = visible_keys(batch, LayerView(batch.all, shares, reach))

    def place(token):
        return token[2] + (0 if token[1] is None else asked[token[0]][0])

    for row, (number, candidate, _) in enumerate(tokens):
        for key, other in enumerate(tokens):
            near = reach is None or abs(place(tokens[row]) - place(other)) <= reach
            assert own[row, key] == (near and other[:2] == (number, candidate))
            is_query = shares and candidate is not None and other[:2] == (number, None)
            assert of_query[row, key] == (near and is_query)


@quick
@given(asked=lists | long_lists, shares=st.booleans(), reads=st.none() | st.integers(1, 2), biased=st.booleans())
def test_two_parts_and_copied_keys_are_one_softmax(asked, shares, reads, biased):
    batch = packed(asked, reads=reads).sequences
    bias = torch.tensor([0.7, -2.0]) if biased and shares else None

    for rows in (batch.all, batch.read):
        view = LayerView(rows, shares, None, bias)
        found = attended(VarlenAttention(plain_kernel), batch, view)
        assert torch.allclose(found, attended(dense_attention, batch, view), atol=1e-5)


@quick
@given(asked=lists, reach=st.integers(1, 6))
def test_windows_are_aligned_at_the_ends_of_copied_keys(asked, reach):
    batch = packed(asked).sequences
    view = LayerView(batch.all, shares=True, reach=reach)

    found = attended(VarlenAttention(plain_kernel), batch, view)

    assert torch.allclose(found, attended(dense_attention, batch, view), atol=1e-5)


@quick
@given(asked=lists, start=st.integers(0, 40), reads=st.integers(1, 3))
def test_positions_and_read_rows_are_those_of_each_sequence(asked, start, reads):
    absolute, relative, tokens = packed(asked, start=start, reads=reads), packed(asked), tokens_of(asked)

    assert absolute.sequences.positions.tolist() == [place + (0 if c is None else start) for _, c, place in tokens]
    assert relative.sequences.positions.tolist() == [
        place + (0 if c is None else asked[number][0]) for number, c, place in tokens
    ]
    read = [index for index, (*_, place) in enumerate(tokens) if place < reads]
    rows = absolute.sequences.read
    assert read == ([*range(len(tokens))] if rows.index is None else rows.index.tolist())
    markers = [index for index, (_, c, place) in enumerate(tokens) if c is not None and place == 0]
    assert [read[row] for row in absolute.marker_rows.tolist()] == markers
    assert [tokens[index][0] for index in markers] == absolute.query_of.tolist()


@quick
@given(sizes=st.lists(st.integers(1, 12), min_size=1, max_size=5))
def test_windows_see_themselves_alone(sizes):
    packer = Packer(
        device=torch.device("cpu"),
        example_id=99,
        candidate_start=None,
        query_reads=None,
        candidate_reads=None,
        embed_marker=True,
    )
    batch = packer.windows([Window((5,) * size, (0,), size - 1) for size in sizes])
    sequence = [number for number, size in enumerate(sizes) for _ in range(size)]

    own, of_query = visible_keys(batch.sequences, LayerView(batch.sequences.all, shares=False))

    assert own.tolist() == [[a == b for b in sequence] for a in sequence]
    assert not of_query.any()
    assert batch.sequences.positions.tolist() == [place for size in sizes for place in range(size)]
    view = LayerView(batch.sequences.all, shares=False, reach=2)
    found = attended(VarlenAttention(plain_kernel), batch.sequences, view)
    assert torch.allclose(found, attended(dense_attention, batch.sequences, view), atol=1e-5)
