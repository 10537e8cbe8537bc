"""What the synthesised images are like: diversity and confusion, embeddings, image grids."""
