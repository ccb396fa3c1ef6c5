"""Tasks whose input is a video."""
