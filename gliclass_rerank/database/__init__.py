"""SQLite files that threads, forks and other processes use at once."""
