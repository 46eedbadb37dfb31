"""Bidirectional LSTM over the text's states, with upstream's parameter names."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class TextLstm(nn.Module):
    """Bidirectional LSTM over the text's states; output and input have the same width."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(hidden_size, hidden_size // 2, bidirectional=True, batch_first=True)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Run over the tokens of each row.

        Args:
            states: FloatTensor [num_windows, seq_len, hidden].
            mask: BoolTensor [num_windows, seq_len]. True on tokens, right-padded.

        Returns:
            FloatTensor [num_windows, seq_len, hidden], zero on padding.
        """
        packed = pack_padded_sequence(states, mask.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False)
        output, _ = self.lstm(packed)
        padded, _ = pad_packed_sequence(output, batch_first=True, total_length=states.shape[1])
        return padded
