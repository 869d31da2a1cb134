"""What is measured of a frame: numbers, their errors and H; which of them are left out."""
