"""How batches run: placement, order, budget, memory. Knows no query and no passage."""
