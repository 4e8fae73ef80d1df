"""A simulation of the stages' logic: the pure core in a world in memory, days of it in milliseconds.

The clock, the provider, the faults and the order in which stages run come from a seed, which replays exactly. The
core's functions are the service's own; the world does what the stores' transactions and the world outside would do.
"""
