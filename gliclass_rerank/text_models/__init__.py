"""Teachers, which score passages, and encoders, which embed texts, on any runtime.

Each module imports its runtime when a model is loaded. Models are local folders; their code is never run and nothing is
unpickled.
"""
