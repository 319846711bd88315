"""Trains freshet's models: the PyTorch definition of banded HSTU, and a plain full-softmax trainer.

Needs PyTorch >= 1.13 and NumPy, nothing else. How to use it: docs/training.md. What is computed: docs/model-format.md.
"""
