"""From surfaces to class maps: the model file, seamless windows, inference backends."""
