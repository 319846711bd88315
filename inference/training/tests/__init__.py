import os

# Threads that wait for one another spin, which a busy machine pays for in minutes. OpenBLAS has some of its own.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import torch

torch.set_num_threads(1)
