"""Ranking lists for distillation at scale: mined, scored by teachers, and stored as numbers without text.

A text is named by source file, record and form (`forms`), so a candidate takes a few bytes; `join` restores the texts
from the data folder. Work is done in blocks: a part of every collection's passages with their questions, so that a
teacher embeds each passage once for many lists.
"""
