"""ONNX graphs of transformer layers: the computation of each backbone, and graph assembly."""
