"""Prompts: text in, token ids out."""
