"""Training: the loop, trainers, measurements and their noise, input, state and report."""
