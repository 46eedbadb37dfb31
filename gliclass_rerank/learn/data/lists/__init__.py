"""Ranking lists for distillation, by the hundred thousand: mined, taught, and kept as numbers without any text.

Texts are named by the data's file, the record in it and a form (`forms`), so that a list is a few bytes a candidate and
the texts come from the data folder again (`join`).

The work is done in blocks. A block holds a part of every collection's passages and the questions on them, and its lists
hold passages of this part only: a passage is in many lists of its block, and a teacher embeds it once.
"""
