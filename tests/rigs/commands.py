"""The publishing commands, as the scripts call them but in this process."""

from pathlib import Path

from model_api.publishing.commands.main import main


def run(*arguments: str | Path) -> int:
    """The exit code."""
    return main([str(argument) for argument in arguments])
