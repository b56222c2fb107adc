"""Where all randomness comes from: (job seed, step index, phase, candidate index), hashed.

A step's randomness does not depend on what was drawn before it, so a resumed job writes what an uninterrupted one
would have. Hashing rather than adding keeps the streams of neighbouring steps and candidates apart.
"""

import hashlib


def derive_seed(*parts: int | str) -> int:
    """Return a seed in [0, 2**63) that depends on all parts and on their order."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def uniform(*parts: int | str) -> float:
    """Return a number in [0, 1) that depends on all parts and on their order."""
    return (derive_seed(*parts) >> 10) / 2**53
