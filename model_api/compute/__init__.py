"""Arithmetic: torch lives here."""
