"""A whole file through a model: CSV or JSON lines in, the same with predictions out, in bounded memory, resumable."""
