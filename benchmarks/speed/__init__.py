"""What the suite's loops cost on top of the networks they drive."""
