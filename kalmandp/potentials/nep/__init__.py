"""NEP, the neuroevolution potential of GPUMD: form, descriptor, files; trained by the same filter."""
