"""The fingerprint by which an engine knows that the weights it holds are those that it was given."""

import torch

BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bit_sum(tensor: torch.Tensor) -> int:
    """Sum of the elements' bit patterns, as signed integers, modulo 2^64.

    Whatever an engine does to lay tensors out (fusing, splitting, padding with zeros, another device) leaves the sum
    over all of them as it was.
    """
    flat = tensor.detach().contiguous().view(-1).view(BITS[tensor.element_size()])
    return int(flat.sum(dtype=torch.int64)) % 2**64
