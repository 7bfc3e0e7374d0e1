"""What the benchmarks share: data, the baselines' loops, counting and reporting."""
