"""What a person runs: replay with its report, evaluation against truth."""
