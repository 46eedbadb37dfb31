"""Collections in the folder format, ranking quality, and TREC run files; knows no model."""
