"""Formats that ASE and dpdata read for us."""
