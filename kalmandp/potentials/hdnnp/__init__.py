"""Behler–Parrinello networks with n2p2's symmetry functions and files."""
