"""A GenTL producer in C whose camera looks at a rendered web; `edge.simulation.producer` compiles it."""
