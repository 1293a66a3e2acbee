"""One rewrite per file: its algebra, and a pure function of weights; nothing here knows a graph."""
