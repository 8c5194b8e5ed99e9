"""A model and a guide as one: their parameters, their sites, and the look at them before anything is done with them."""
