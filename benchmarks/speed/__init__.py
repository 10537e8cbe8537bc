"""What the suite's steps cost, beside a floor: the networks' own passes in their cheapest exact form."""
