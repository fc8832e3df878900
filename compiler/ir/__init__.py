"""The intermediate representation: typed immutable ops, graphs, and what can be done with them."""
