"""From an input file to settings: keys, presets, checks."""
