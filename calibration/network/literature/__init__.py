"""Systems of the literature, trained and judged on any data set: recipes by name over the table of networks."""
