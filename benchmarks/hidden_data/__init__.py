"""How well agreement on held-out synthesised images tells what only labelled images can: the digits, hidden."""
