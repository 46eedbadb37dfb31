"""Files of queries with their passages, ranked part by part; restartable."""
