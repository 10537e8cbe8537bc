"""Analysis of synthesised images: their diversity and confusion, embeddings, image grids."""
