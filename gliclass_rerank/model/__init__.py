"""The network: tensors in, tensors out. Knows no text."""
