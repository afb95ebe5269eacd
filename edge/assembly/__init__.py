"""From strobed frames to registered strips of web: correction, registration, coverage of rows."""
