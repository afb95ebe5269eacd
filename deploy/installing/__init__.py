"""What install.py does, for the system's own Python: nothing but its standard library."""
