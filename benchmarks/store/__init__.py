"""What a store of many finished trials costs to render and to plan on: `python -m rgal.benchmarks.store`."""
