"""n2p2: input.nn, model folders, and the files that its ``nnp-train`` leaves."""
