from __future__ import annotations

import pytest

from gliclass_rerank.learn.updating import learning


@pytest.fixture(scope="session", autouse=True)
def few_public_questions():
    """Ten of the real questions: what all of them say of a tiny network is not worth the time."""
    every = learning.public_questions
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning, "public_questions", lambda: every()[::9])
        yield
