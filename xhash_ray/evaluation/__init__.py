"""What the numbers mean: relevance, average precision over ties, protocols."""
