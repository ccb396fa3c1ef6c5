"""Alembic's place: a step per file in versions/, named v0001_..., v0002_..., each after the one before."""
