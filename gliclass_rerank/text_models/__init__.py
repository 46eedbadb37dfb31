"""Models that score passages (teachers) or embed them (encoders), whatever library runs them.

Each module knows one runtime and imports it when a model is loaded. Models are local folders; no code from them is run
and nothing is unpickled.
"""
