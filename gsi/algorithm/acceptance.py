"""The acceptance test (GSI paper, line 6 of Algorithm 1): keep the draft's candidate if r~ >= u."""


def is_accepted(tilted_reward: float, acceptance_threshold: float) -> bool:
    """Return whether the tilted reward reaches u, a finite number. A tie is accepted; -inf never is."""
    return tilted_reward >= acceptance_threshold
