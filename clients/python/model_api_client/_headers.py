"""What the headers of a problem say."""


def seconds_of(text: str | None) -> float | None:
    """Retry-After in seconds; as a date it is nothing that this server sends."""
    return float(text) if text and text.replace(".", "", 1).isdigit() else None


def job_of(location: str | None) -> str | None:
    head, _, job_id = (location or "").rpartition("/jobs/")
    return job_id if job_id.isalnum() and not head.strip("/") else None
