"""What benchmarks share: turns on the clock, the frame of water, DeePMD-kit beside us, tables, bars."""
