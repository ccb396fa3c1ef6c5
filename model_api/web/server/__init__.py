"""The gunicorn worker and its socket."""
