"""What will run: settings, their expansion into trials, and the checks before anything runs."""
