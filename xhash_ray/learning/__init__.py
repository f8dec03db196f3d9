"""The training loop: one for all methods, one process or many, memory or streams, from the start or a checkpoint."""
