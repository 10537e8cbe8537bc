"""Synthesis: what is optimised, what the networks see of it, the inversion loop, and where images are kept."""
