"""Calls: cancellation, worker threads and forks."""
