"""The fingerprint by which an engine knows that the weights it holds are those that it was given."""

import numpy as np
import torch

BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bit_sum(tensor: torch.Tensor) -> int:
    """Sum of the elements' bit patterns, as signed integers, modulo 2^64.

    Whatever an engine does to lay tensors out (fusing, splitting, padding with zeros, another device) leaves the sum
    over all of them as it was.
    """
    flat = tensor.detach().contiguous().view(-1).view(BITS[tensor.element_size()])
    # On a CPU numpy takes a tenth of torch's time.
    total = flat.numpy().sum(dtype=np.int64) if flat.device.type == "cpu" else flat.sum(dtype=torch.int64)
    return int(total) % 2**64
