"""How much the server takes on at a time, from the settings and from what the process may open."""

import resource
from dataclasses import dataclass

from model_api.errors import SettingsError
from model_api.settings import Settings

FILES_IN_RESERVE = 256  # for models' processes, the store, logs
# Requests beyond the queue's capacity, so that "queue full" and what asks no model are answered at once.
REQUESTS_IN_RESERVE = 16


@dataclass(frozen=True)
class ServerLimits:
    """Of one web process."""

    connections: int
    requests: int
    """In progress at a time, whatever they ask."""
    bodies_bytes: int
    unsent_bytes: int

    @property
    def threads(self) -> int:
        """A third of them may wait for a connection's next request."""
        return self.requests * 3 // 2


def server_limits(settings: Settings) -> ServerLimits:
    """Raises SettingsError where the process may not open as many files as the settings need."""
    files = allowed_files()
    requests = settings.max_queue_entries + REQUESTS_IN_RESERVE
    connections = min(settings.max_connections, files - FILES_IN_RESERVE)
    if connections < requests:
        name, needed = "MODEL_API_MAX_QUEUE_ENTRIES", requests + FILES_IN_RESERVE
        if settings.max_connections < requests:
            raise SettingsError(f"{name}={settings.max_queue_entries}: MODEL_API_MAX_CONNECTIONS must be {requests}")
        raise SettingsError(f"{name}={settings.max_queue_entries}: needs {needed} open files, {files} are allowed")
    return ServerLimits(
        connections=connections,
        requests=requests,
        bodies_bytes=max(settings.max_bodies_bytes, settings.max_body_bytes),
        unsent_bytes=settings.max_unsent_bytes,
    )


def allowed_files() -> int:
    """What `ulimit -n` may be raised to."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if hard == resource.RLIM_INFINITY else hard


def raise_file_limit() -> None:
    """Let this process and its children open as many files as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
