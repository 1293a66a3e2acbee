"""Pictures and labels: readers, views cut by the preprocess contract, and the figure renderer."""
