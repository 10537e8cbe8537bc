"""Suites: what will run (`plan`), running it (`running`), and what is kept of it (`store`)."""
