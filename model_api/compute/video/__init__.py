"""Videos: files to frames, frames to clips, clips of 16 frames to features. Only `networks` and `judge` need torch."""
