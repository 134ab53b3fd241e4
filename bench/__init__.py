"""`make bench`: the figures of the product, each as a ratio inside one run wherever a ratio says it."""
