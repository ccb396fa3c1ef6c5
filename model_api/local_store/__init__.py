"""This instance's verified copies."""
