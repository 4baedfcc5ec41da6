"""The CUDA wing: driver, devices, streams, kernels.  Importing it imports nothing of CUDA."""
