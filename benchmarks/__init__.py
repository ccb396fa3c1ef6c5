"""Measure this project beside its peers, in one run on one machine. See docs/performance.md and `benchmarks/run --help`."""
