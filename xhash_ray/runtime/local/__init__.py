"""A cluster of several nodes on one machine, which can be killed, cut off and slowed."""
