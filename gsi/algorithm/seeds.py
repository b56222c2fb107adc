"""The source of all randomness: a hash of (job seed, step index, phase, candidate index).

A step's randomness does not depend on earlier draws, so a resumed job writes what an uninterrupted job would have
written. A hash, unlike a sum, keeps the streams of neighbouring steps and candidates apart.
"""

import hashlib


def derive_seed(*parts: int | str) -> int:
    """Return a seed in [0, 2**63) that depends on all parts and on their order."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def uniform(*parts: int | str) -> float:
    """Return a number in [0, 1) that depends on all parts and on their order."""
    return (derive_seed(*parts) >> 10) / 2**53
