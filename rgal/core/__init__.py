"""The ground floor: problem and domain, observing networks, seeds, precision, optimisers, meters, errors, files."""
