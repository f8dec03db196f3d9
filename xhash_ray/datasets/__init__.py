"""Published feature sets in the layouts they are handed round in, their splits, and our format made of them."""
