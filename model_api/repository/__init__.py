"""What is on the shared file system. Python 3.9 and the standard library only."""
