"""Training data out of other training data, or out of a model: examples for records, labels for texts.

`rac_data` puts similar records into each record as judged examples; `pseudo_labels` has a model label texts that nobody
has labelled. Knows the formats of `training` and the store of `rac`; trains nothing.
"""
