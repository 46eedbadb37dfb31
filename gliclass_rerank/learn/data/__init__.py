"""Training data: mined candidates, teachers' scores, judged examples and pseudo-labels."""
