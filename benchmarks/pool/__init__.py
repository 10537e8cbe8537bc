"""What a pool of very many images costs: `python -m rgal.benchmarks.pool`."""
