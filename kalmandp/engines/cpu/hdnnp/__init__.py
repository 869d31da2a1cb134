"""The HDNNP's symmetry functions and nets, fused."""
