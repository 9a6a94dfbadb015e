"""Tells when, and what stands where relu begins in its own memory: the function's first byte, or a breakpoint."""

import ctypes
import time

import torch

library = [line.split()[-1] for line in open("/proc/self/maps") if "libtorch_cpu.so" in line][0]
relu = getattr(ctypes.CDLL(library), "_ZN2at4_ops4relu4callERKNS_6TensorE")
address = ctypes.cast(relu, ctypes.c_void_p).value
data = torch.ones(8)
print("ready", flush=True)
while True:
    torch.relu(data)
    print(time.monotonic_ns(), ctypes.string_at(address, 1).hex(), flush=True)
    time.sleep(0.02)
