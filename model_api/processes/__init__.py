"""Model processes, seen from the web process."""
