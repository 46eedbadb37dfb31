"""What the tests of rankings and classifications with a store share: real judgements, and sources with a fault."""

from __future__ import annotations

from gliclass_rerank import Example

# Similar to `CHAIN_QUERY`, in this order: cosines of 0.77, 0.74 and 0.69 by the bundled encoder.
CHAIN = [
    Example("the bicycle chain slips when I pedal hard", ["A worn chain slips under load."], ["Ring the bell."]),
    Example("how to stop a slipping chain", ["Replace chain and sprockets together."], []),
    Example("my chain keeps falling off", ["Adjust the derailleur's limit screws."], ["Oil the lock."]),
]
TYRE = Example("how do I repair a punctured tyre?", ["Patch the inner tube."], ["Adjust the brakes."])
CHAIN_QUERY, TYRE_QUERY, OTHER_QUERY = (
    "why does my chain slip?",
    "How do I fix a flat tyre?",
    "is the museum open on Sunday?",
)
PASSAGES = [
    "Chains stretch; at 0.75 percent they are worn and jump over the teeth.",
    "Take the tube out, roughen it, glue the patch on.",
    "The bell must be heard at thirty metres.",
]


class Source:
    """An example source that is no `ExampleStore`: answers with a table, or raises. Keeps what it was asked."""

    def __init__(self, answers=(), error=None):
        self.answers, self.error, self.asked = answers, error, []

    def find_examples(self, texts, k, min_similarity, *, allow_equal=False):
        self.asked.append((list(texts), k, min_similarity, allow_equal))
        if self.error is not None:
            raise self.error
        return [list(examples) for examples in self.answers]
