"""Report on what reranking does to one's own queries and documents."""
