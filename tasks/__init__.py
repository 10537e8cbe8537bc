"""The tasks: each a thin adapter that says who the student is, what it sees, and what is measured."""
