"""The fingerprint by which an engine knows that the weights it holds are those that it was given."""

import torch

CHUNK = 1 << 24  # elements: their 64-bit copies take 128 MB
BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bit_sum(tensor: torch.Tensor) -> int:
    """Sum of the elements' bit patterns, as unsigned integers, modulo 2^64.

    Whatever an engine does to lay tensors out (fusing, splitting, padding with zeros, another device) leaves the sum
    over all of them as it was.
    """
    flat = tensor.detach().contiguous().view(-1).view(BITS[tensor.element_size()])
    mask = (1 << 8 * tensor.element_size()) - 1 if tensor.element_size() < 8 else -1
    sums = [part.to(torch.int64).bitwise_and_(mask).sum() for part in flat.split(CHUNK)]
    return int(torch.stack(sums).sum()) % 2**64 if sums else 0
