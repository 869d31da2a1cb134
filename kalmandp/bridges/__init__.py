"""Other programs: their model files and inputs, and codes that run our models."""
