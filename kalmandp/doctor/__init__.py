"""The data doctor: what is wrong with labelled frames, reported before a model is trained on them."""

from kalmandp.doctor.examine import examine
from kalmandp.doctor.findings import SEVERITIES, Finding, ranges

__all__ = ["SEVERITIES", "Finding", "examine", "ranges"]
