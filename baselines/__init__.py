"""One method a file: a function that returns its Recipe. A file's presence is its registration."""
