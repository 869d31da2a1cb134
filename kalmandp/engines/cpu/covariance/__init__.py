"""P of the filter in tiles: products, downdates, and P shared by ranks."""
