"""The machine that alternates synthesis and student steps, the student loop, and evaluation."""
