"""HTTP server for reranking and classification, with the schemas of the common rerank APIs."""
