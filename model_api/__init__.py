"""Serve models from one shared EFS mount: publish once, served everywhere."""
