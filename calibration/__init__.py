"""What is fitted offline and loaded by `edge`."""
