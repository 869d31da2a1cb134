"""Which frames, or numbers of them, come next."""
