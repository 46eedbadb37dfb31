"""Translators between the APIs' schemas and the core's requests, one module a family."""
