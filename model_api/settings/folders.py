"""Where things lie unless a setting says so."""

from pathlib import Path

from model_api.settings import Settings


def jobs_folder(settings: Settings) -> Path:
    """Beside the local store, unless the settings say where. What is kept of jobs, and the history."""
    store = settings.local_store
    return settings.jobs_dir or store.with_name(f"{store.name}.jobs")
