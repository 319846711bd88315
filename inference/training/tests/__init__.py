import torch

torch.set_num_threads(1)  # threads that wait for one another spin, which a busy machine pays for in minutes
