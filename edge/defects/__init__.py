"""From class maps to defects: components joined across strips, measured in millimetres."""
