"""The networks that can be trained, each under its name."""
