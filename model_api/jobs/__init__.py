"""Work that outlives its request: a job is asked for, runs when there is room, and keeps its result for a while."""
