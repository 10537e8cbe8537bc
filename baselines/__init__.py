"""Holds one method per file: a function that returns its Recipe. That a file is here registers it."""
