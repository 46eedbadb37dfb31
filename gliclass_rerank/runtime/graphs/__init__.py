"""Transformer layers as ONNX graphs: what each backbone computes, and how the graphs are put together."""
