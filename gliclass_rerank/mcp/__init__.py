"""Model Context Protocol: rerank, classify and choose tools for agents; needs the extra `mcp`."""
