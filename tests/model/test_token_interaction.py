"""The token-by-token term of a logit."""

import pytest
import torch

from gliclass_rerank.model.scorers import TokenInteraction

QUERY = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
# The first passage holds both of the query's directions, the second one of them; its last token is padding.
PASSAGES = torch.tensor([[[1.0, 0.0], [0.0, 3.0], [-1.0, 0.0]], [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]])
MASK = torch.tensor([[True, True, True], [True, True, False]])


@pytest.fixture
def interaction():
    module = TokenInteraction(2)
    for parameter in module.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.ones_(module.match_scale.weight)
    return module


@torch.no_grad()
def test_each_query_token_takes_its_best_match_and_padding_matches_nothing(interaction):
    assert interaction(QUERY, PASSAGES, MASK).tolist() == pytest.approx([1.0, 0.5])


@torch.no_grad()
def test_salience_weighs_the_querys_tokens(interaction):
    interaction.salience.weight[:] = torch.tensor([[0.0, 30.0]])

    assert interaction(QUERY, PASSAGES, MASK).tolist() == pytest.approx([1.0, 0.0], abs=1e-6)


@torch.no_grad()
def test_the_markers_state_adds_a_score_of_its_own(interaction):
    torch.nn.init.zeros_(interaction.match_scale.weight)
    interaction.marker_mlp[2].bias[:] = 0.25

    assert interaction(QUERY, PASSAGES, MASK).tolist() == pytest.approx([0.25, 0.25])
