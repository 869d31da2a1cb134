"""Readers of the text that electronic-structure programs leave behind.

Each module reads one program's files and yields `Step`s, in the units of a Frame. They are ours, not
ASE's or dpdata's, for four reasons that were met with real files: an SCF cycle that did not converge
must be recognised; a run that was killed must give the steps it finished; a frame must not be
rotated on its way; and a potential should be trainable from OUTCARs without optional packages.
"""
