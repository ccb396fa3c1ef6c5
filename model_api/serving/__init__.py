"""Answering one request."""
