"""Image-text pairs out of object storage: what a pair is, where the rows are, how they are read."""
