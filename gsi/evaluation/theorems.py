"""The bounds of the GSI paper's theorems, as functions of numbers. Divergences have no unit; epsilon is in nats.

chi_square is chi^2(pi_B || pi_S), reward_bound is ||r||. Both theorems speak of one prefix x. Neither holds for
Algorithm 1 with its test in line 6: ``rejection_total_variation`` and ``rejection_kl`` do, and ``docs/algorithm.md``
derives them.
"""

import math

import numpy as np

from gsi.errors import InvalidRequestError

CAUTION = (
    "Theorem 2 does not hold in general: `tests/algorithm/test_paper.py` has a world in which the gap is more than "
    "twice the bound, because both branches are taken. Read the bound only where nearly every step goes one way; the "
    "bounds with the test of line 6 hold everywhere."
)


def theorem_1_log10_n(chi_square: float, beta: float, reward_bound: float, epsilon: float) -> float:
    """Return log10 of the n from which on Theorem 1 promises KL(pi_{beta,B} || tilted soft best-of-n) <= epsilon nats.

        n >= ((chi^2(pi_B || pi_S) + 1) e^{2 beta ||r||} - 1) / (e^epsilon - 1)

    -inf for n = 0. The logarithm stays a number where n overflows. With the paper's beta of 20 and rewards up to 1, n
    is above e^40 / (e^epsilon - 1), more than 10^17 candidates for epsilon = 1: nobody will ever draw as many. The
    theorem shows that the method converges; it is no guide to n. It bounds the candidate that line 5 of Algorithm 1
    selects, not the result of the test in line 6. Raises InvalidRequestError.
    """
    _check_theorem_1(chi_square, beta, reward_bound)
    if not epsilon > 0:
        raise InvalidRequestError(f"epsilon: {epsilon} is not allowed; allowed: numbers above 0")
    log_n = _log_expm1(math.log1p(chi_square) + 2 * beta * reward_bound) - _log_expm1(epsilon)
    return log_n / math.log(10)


def theorem_1_epsilon(n: float, chi_square: float, beta: float, reward_bound: float) -> float:
    """Return the KL divergence, in nats, that Theorem 1 promises with n candidates: the inverse of its bound on n.

    Raises InvalidRequestError.
    """
    _check_theorem_1(chi_square, beta, reward_bound)
    if not n > 0:
        raise InvalidRequestError(f"n: {n} is not allowed; allowed: numbers above 0")
    return float(np.logaddexp(0, _log_expm1(math.log1p(chi_square) + 2 * beta * reward_bound) - math.log(n)))


def theorem_2_bound(
    n: float, p_accept: float, beta: float, reward_bound: float, chi_square: float, cv_squared: float
) -> float:
    """Return the bound of Theorem 2 on E_{pi_{beta,B}}[r] - E_{pi_GSI}[r], on the reward's scale, with r* = r.

        ||r|| / sqrt(n) * (sqrt(p) e^{beta ||r||} sqrt(chi^2 + 1) + (1 - p) sqrt(CV^2(e^{beta r}) + 1))

    Do not rely on the bound where both branches are taken (p near neither 0 nor 1): there the theorem as stated is
    false, and ``tests/algorithm/test_paper.py`` has the counterexample. inf where it overflows. Raises
    InvalidRequestError.
    """
    _check_theorem_1(chi_square, beta, reward_bound)
    _check_rejection(n, p_accept, cv_squared)
    accepted = 0.0
    if p_accept > 0:
        accepted = math.sqrt(p_accept) * exp_or_inf(beta * reward_bound + math.log1p(chi_square) / 2)
    return reward_bound / math.sqrt(n) * (accepted + (1 - p_accept) * math.sqrt(cv_squared + 1))


def rejection_total_variation(
    n: float, p_accept: float, beta: float, reward_bound: float, chi_square: float, cv_squared: float
) -> float:
    """Return a bound on TV(pi_{beta,B}, pi_GSI), in [0, 1], for Algorithm 1 at the u by which it accepts with p.

        p (1 - p) + min(p^2, delta_S) + (1 - p) delta_B

    delta_S and delta_B bound the distance of what lines 5 and 11 select, n of each, from pi_{beta,B}. The expected
    reward is at most ||r|| times as far from the optimal policy's. p is that of one prefix: a mean over prefixes makes
    the first term no smaller, as it is concave. Raises InvalidRequestError.
    """
    _check_rejection(n, p_accept, cv_squared)
    p = p_accept
    delta_s = _bound_total_variation(theorem_1_epsilon(n, chi_square, beta, reward_bound))
    delta_b = _bound_total_variation(math.log1p(cv_squared / n))
    return min(1.0, p * (1 - p) + min(p * p, delta_s) + (1 - p) * delta_b)


def rejection_kl(
    n: float, p_accept: float, beta: float, reward_bound: float, chi_square: float, cv_squared: float
) -> float:
    """Return a bound on KL(pi_{beta,B} || pi_GSI), in nats, for Algorithm 1 at the u by which it accepts with p.

        -p log(2 - p) - (1 - p) log(1 - p)  +  delta_S log((2 - p) / (1 - p))
            + log(1 + (chi^2 + 1) e^{2 beta ||r||} / n) / (2 - p)  +  log(1 + (CV^2 + 1) / n)

    What stands before delta_S stays as n grows, and is at most 0.1793 nats. At p = 1 this is Theorem 1, at
    p = 0 equation 2. Raises InvalidRequestError.
    """
    _check_rejection(n, p_accept, cv_squared)
    epsilon, p = theorem_1_epsilon(n, chi_square, beta, reward_bound), p_accept
    if p == 1:
        return epsilon
    if p == 0:
        return math.log1p(cv_squared / n)
    stays = -p * math.log(2 - p) - (1 - p) * math.log(1 - p)
    moved = _bound_total_variation(epsilon) * math.log((2 - p) / (1 - p))
    selected = float(np.logaddexp(epsilon, -math.log(n)))  # log(e^epsilon + 1 / n)
    return stays + moved + selected / (2 - p) + math.log1p((cv_squared + 1) / n)


def exp_or_inf(x: float) -> float:
    """Return e^x, inf where it overflows."""
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def _check_theorem_1(chi_square: float, beta: float, reward_bound: float) -> None:
    if not (chi_square >= 0 and beta > 0 and reward_bound >= 0):
        raise InvalidRequestError(
            f"chi_square, beta, reward_bound: {chi_square}, {beta}, {reward_bound} are not allowed; "
            "allowed: chi_square and reward_bound from 0, beta above 0"
        )


def _check_rejection(n: float, p_accept: float, cv_squared: float) -> None:
    if not (n > 0 and 0 <= p_accept <= 1 and cv_squared >= 0):
        raise InvalidRequestError(
            f"n, p_accept, cv_squared: {n}, {p_accept}, {cv_squared} are not allowed; "
            "allowed: n above 0, p_accept from 0 to 1, cv_squared from 0"
        )


def _bound_total_variation(epsilon: float) -> float:
    """Return a bound on TV(p, q) where chi^2(p || q) <= e^epsilon - 1, which implies KL(p || q) <= epsilon.

    By Cauchy-Schwarz sqrt(chi^2) / 2, the smaller one below 1.4 nats; by Bretagnolle and Huber sqrt(1 - e^-KL).
    """
    by_chi_square = math.sqrt(math.expm1(epsilon)) / 2 if epsilon < 2 else math.inf
    return min(by_chi_square, math.sqrt(-math.expm1(-epsilon)))


def _log_expm1(x: float) -> float:
    """Return log(e^x - 1) for x >= 0, without overflow."""
    return x + math.log(-math.expm1(-x)) if x > 0 else -math.inf
