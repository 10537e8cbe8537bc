"""The page of results, served on this machine while trials run."""
