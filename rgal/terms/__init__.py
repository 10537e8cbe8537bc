"""Loss terms: what synthesis and students minimise, each named and weighted in an Objective.

One rule names the parts of a loss X: `x_loss` is its formula, a function from tensors to a scalar; `X` is the Term, a
class that exists only if the loss keeps state; `x` is what a recipe writes, a function (weight, ...) -> LossTerm. If a
loss has several forms, each has a formula of its own. Quantities that losses are made of have plain names: `kl_div`.
"""
