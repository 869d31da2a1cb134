"""GPUMD: nep.in, nep.txt, and the files that its ``nep`` leaves."""
