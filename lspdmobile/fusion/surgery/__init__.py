"""Where in a graph a rewrite applies, and putting its result in place."""
