"""Data and inputs that come with the package, one folder for each example: `kalmandp example` copies them."""
