"""Measure this project beside its peers, in one run on one machine: docs/performance.md, `benchmarks/run --help`."""
