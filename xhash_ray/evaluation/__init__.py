"""What the numbers mean: relevance, tie-aware measures, published definitions, curves, the contact sheet."""
