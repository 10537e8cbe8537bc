"""Suites as data, published numbers, speed benchmarks."""
