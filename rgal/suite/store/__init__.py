"""What is kept on disk: one folder a trial, its records and checkpoints, and the tables made of them."""
