"""The data doctor: what is wrong with labelled frames, told before a model learns it."""

from kalmandp.doctor.examine import examine
from kalmandp.doctor.findings import SEVERITIES, Finding, ranges

__all__ = ["SEVERITIES", "Finding", "examine", "ranges"]
