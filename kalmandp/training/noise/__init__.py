"""The variance R of measurements: rules, estimates, annealing."""
