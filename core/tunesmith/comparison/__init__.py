"""`tunesmith compare`: one recipe, several adapters, an equal budget of steps, one table and one plot.

`settings` reads the table `[compare]`, `candidates` makes a checked plan of every entry, `driver` runs each in a
process of its own (`child`), `result` gathers the figures, and `page` and `plot` write them down.
"""
