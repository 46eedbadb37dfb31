"""Networks: tensors in, tensors out; no text."""
