"""Frames to and from MCAP files; recordings made from folders of still images."""
