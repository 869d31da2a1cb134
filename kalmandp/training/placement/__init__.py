"""Where P and frames lie: processor, GPU or ranks, and whether they fit."""
