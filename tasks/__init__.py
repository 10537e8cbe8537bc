"""The tasks: who the student is, what it sees, and what is measured."""
