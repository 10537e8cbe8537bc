"""Loss terms: what synthesis and students minimise, one idea a function, weighted and named in an Objective."""
