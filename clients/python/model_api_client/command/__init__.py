"""The command `model-api`."""
