"""What the tests of the store share: encoders made of hashes, and vectors with a shape."""

from __future__ import annotations

import zlib

import numpy as np

from gliclass_rerank import Example
from gliclass_rerank.examples import CallableEncoder
from gliclass_rerank.examples.index_file import read_index_file, write_index_file

DIM = 16


def bag_of_words(texts):
    """Texts that share words are similar; equal bags of words are the same vector."""
    return np.stack([sum((word_vector(word) for word in text.split()), np.zeros(DIM)) for text in texts])


def word_vector(word):
    return np.random.default_rng(zlib.crc32(word.encode())).normal(size=DIM)


ENCODER = CallableEncoder(bag_of_words, name="bag of words")


def table_encoder(vectors, *, name="table"):
    """An encoder that knows some texts, and gives any other one the first axis."""
    dim = len(next(iter(vectors.values())))
    other = np.eye(dim)[0]
    return CallableEncoder(lambda texts: np.stack([vectors.get(text, other) for text in texts]), name=name)


def unit_vectors(count, *, seed=0, dim=DIM, num_clusters=23):
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(num_clusters, dim))
    vectors = centres[generator.integers(num_clusters, size=count)] + 0.7 * generator.normal(size=(count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


class ArraySource:
    """Vectors in memory as what an index is built from."""

    def __init__(self, rows, vectors, *, chunk=997):
        self._rows, self._vectors, self._chunk = np.asarray(rows, dtype=np.int64), vectors, chunk
        self.dim = vectors.shape[1]

    def __len__(self):
        return len(self._rows)

    def chunks(self):
        for start in range(0, len(self), self._chunk):
            part = slice(start, start + self._chunk)
            yield self._rows[part], self._vectors[part]

    def sample(self, count):
        return self._vectors[:count]


def save(index, path):
    with write_index_file(path, {"kind": index.kind, "dim": index.dim}) as writer:
        index.save(writer)
    return path


def load(builder, path):
    with read_index_file(path) as reader:
        return builder.load(reader)


EXAMPLES = [Example(f"the {word} of number {number}", [word]) for number, word in enumerate(["chain", "brake"] * 40)]
IDS = [f"{number:02}" for number in range(len(EXAMPLES))]


def fill(opened, **options):
    """Put the examples into the store of a test."""
    with opened(**options) as store:
        store.add(EXAMPLES, ids=IDS, metadata=[{"number": number} for number in range(len(EXAMPLES))])


def assert_in_step(store, ids):
    """The index has the records' vectors, and finds each."""
    assert [stored.id for stored in store] == ids
    assert store._index.using(lambda index: index.rows()).tolist() == store._records.rows().tolist()
    for stored, (found, *_) in zip(store, store.search_many([one.example.text for one in store]), strict=True):
        assert (found.example.text, found.similarity) == (stored.example.text, 1.0)
