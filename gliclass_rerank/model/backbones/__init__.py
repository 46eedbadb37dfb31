"""The `shared_query` plan: a query encoded once, candidates encoded beside each other, never seeing one another."""
