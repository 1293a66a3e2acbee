"""Reports: the files a run leaves (schema), the tables a person reads in a terminal, and the HTML page."""
