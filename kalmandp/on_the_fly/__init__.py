"""Learning on the fly: a potential that grows inside a simulation.

    calculator   `OnTheFly`, the ASE calculator: when to check, when to call the reference
    learner      the filter, its replay buffer and its calibration; knows nothing of ASE
    reference    calls somebody else's calculator, and checks its results
    labels       the data set that every reference result goes into at once
    records      the log
"""
