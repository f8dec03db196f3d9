"""CLIP: images and texts to features, through open_clip."""
