"""Shared code of the benchmarks: data, the baselines' loops, counting and reporting."""
