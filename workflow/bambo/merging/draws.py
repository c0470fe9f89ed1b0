"""Random numbers by position: what is drawn for an element depends on a key and on where it is, on nothing else."""

import hashlib

import numpy as np
from numpy.typing import NDArray

BLOCK = 8  # float32 numbers of one step of Philox's counter


def key_of(seed: int, fingerprint: str, tensor: str) -> int:
    """The key of a tensor's draws in the source of a fingerprint."""
    digest = hashlib.blake2b(f"{seed} {fingerprint} {tensor}".encode(), digest_size=16)
    return int.from_bytes(digest.digest(), "little")


def uniform(key: int, start: int, out: NDArray[np.float32]) -> None:
    """Fill `out` [n] with the numbers in [0, 1) of elements start to start + n (Philox; Salmon et al., 2011)."""
    counter, offset = divmod(start, BLOCK)
    generator = np.random.Generator(np.random.Philox(key=key, counter=counter))
    generator.random(offset, dtype=np.float32)
    generator.random(out=out, dtype=np.float32)
