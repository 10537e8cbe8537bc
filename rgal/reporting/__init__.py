"""Tables, plots and image grids: pure functions of data frames. Only `write_*` functions touch the disk."""
