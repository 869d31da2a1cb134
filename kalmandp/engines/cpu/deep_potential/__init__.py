"""The Deep Potential's passes, fused."""
