"""The documentation as a site: pages made from docstrings, registries and records."""
