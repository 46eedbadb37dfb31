"""Training data for rerankers: hard-negative mining, and the scores of teachers. Knows no training.

`mine` finds candidates for questions in a pool of passages and writes records; `teach` adds a teacher's score of every
candidate to records. Both can be killed at any moment and go on where they stopped.
"""
