"""Looks into what a planner planned."""


def ids_of(layout, text):
    return layout.tokenizer.encode([text])[0]


def contains(sequence, part):
    return any(sequence[start : start + len(part)] == part for start in range(len(sequence) - len(part) + 1))


def tokens_after(window, position):
    """A candidate's tokens: from its marker to the next marker or the separator."""
    borders = [*window.markers, window.text_start]
    return window.token_ids[window.markers[position] + 1 : borders[position + 1]]
