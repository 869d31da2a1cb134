"""Speed, behind one seam.

An engine offers the passes of a potential under the names of their reference functions (`engines.protocol`);
the covariance of the filter, the search for neighbours and the distances of a Verlet list have twins in the
same way. `kalmandp.registry` lists them all, and the parity tests loop over its tables: nothing can be added
there and stay untested.
"""
