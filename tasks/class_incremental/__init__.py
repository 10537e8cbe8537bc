"""Non-exemplar class-incremental learning: a model takes on new classes without images of the old ones."""
