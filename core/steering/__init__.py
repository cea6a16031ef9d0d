"""Draws from `p(x) exp(lambda r(x)) / Z`: rewards, look-aheads, weights and what a method is."""
