"""The commands of `kalmandp.cli`, one module each."""
