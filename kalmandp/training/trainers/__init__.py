"""Optimizers behind one contract: the Kalman filter, n2p2's, Adam, SNES."""
