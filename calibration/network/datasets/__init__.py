"""Images with masks, whatever lies on the disk: one interface for training, evaluation and statistics."""
