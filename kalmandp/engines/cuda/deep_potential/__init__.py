"""The Deep Potential's passes on a GPU."""
