"""For tools that look for a setup.py. The package is described in pyproject.toml."""

from setuptools import setup

setup()
