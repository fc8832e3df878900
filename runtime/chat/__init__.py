"""A conversation in a terminal: what is typed, what is commanded, what is printed."""
