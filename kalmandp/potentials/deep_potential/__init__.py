"""The Deep Potential (se_e2_a) of DeePMD-kit."""
