"""Files: atomic writes, untrusted reads, digests."""
