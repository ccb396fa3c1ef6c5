"""What authors run, and its far side. Python 3.9 and the standard library only."""
