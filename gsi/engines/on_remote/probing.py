"""What a server can report, measured when the engine is loaded: a wrong likelihood comes without an error.

A server scores given tokens at temperature 1, whatever the request asks for. The two likelihoods of GSI that this can
give are "model", of the bare model, and "sampling" at temperature 1, which is the same law. The log-probabilities of
drawn tokens must then be of that law as well: at temperature 1 they always are, at another one only if the server
reports them from before the temperature.
"""

import structlog

from gsi.algorithm.params import Likelihood
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.engines.log_probabilities import sum_if_sound
from gsi.engines.on_remote.model_server import PROBE_TEXT, Draw, LanguageServer, ScoringServer
from gsi.errors import MisconfiguredError

log = structlog.get_logger()

PROBE_TOKENS = 16
PROBE_DRAWS = 32
HOT = 2.0  # a temperature far from 1: the two laws differ by nats a token. vLLM allows no higher one
SAME = 0.1  # nats a token between a drawn token and its score: rounding in half precision
SEED = 20_251_130


async def check_tokenizer(server: LanguageServer, tokenizer: Tokenizer) -> None:
    """Raise MisconfiguredError if the server reads a text as other tokens than the tokenizer here."""
    theirs = await server.tokenize(PROBE_TEXT)
    ours = tokenizer.encode(PROBE_TEXT)
    if theirs is None:
        log.warning("the server does not say its tokens; its tokenizer was not compared with the one here")
    elif tuple(theirs) != ours:
        raise MisconfiguredError(
            f"model: its tokenizer reads a text as {ours[:8]}…, that of the server's {server.description.model} "
            f"as {tuple(theirs)[:8]}…; allowed: the tokenizer of the model that the server has"
        )


async def check_draws(server: LanguageServer, tokenizer: Tokenizer, likelihood: Likelihood) -> None:
    """Compare what a server that cannot score says of the same first tokens at two temperatures.

    Raises MisconfiguredError if the likelihood is "model" and the numbers differ: they are of two laws.
    """
    if likelihood is not Likelihood.MODEL:
        return
    prefix = tokenizer.encode(PROBE_TEXT)
    seen: dict[float, dict[int, float]] = {HOT: {}, 1.0: {}}
    for temperature, values in seen.items():
        for seed in range(SEED, SEED + PROBE_DRAWS):
            drawn = await server.draw(prefix, Draw(temperature, 1.0, seed, 1, ()))
            values[drawn.token_ids[0]] = drawn.log_probabilities[0]
    hot, plain = seen.values()
    differences = [abs(value - plain[token]) for token, value in hot.items() if token in plain]
    log.info(
        "log-probabilities at two temperatures",
        tokens=len(differences),
        largest_difference=max(differences, default=None),
    )
    if not differences or max(differences) > SAME:
        raise MisconfiguredError(
            f"likelihood: the server reports log-probabilities of drawn tokens that depend on the temperature, and so "
            f"cannot report model; allowed: {server.raw_hint}, or likelihood sampling with temperature 1"
        )


async def check_scores(server: ScoringServer, tokenizer: Tokenizer, likelihood: Likelihood) -> None:
    """Draw a step, and score it: the numbers must agree. Raises MisconfiguredError otherwise."""
    prefix = tokenizer.encode(PROBE_TEXT)
    way = await server.prepare_scores(prefix, tokenizer.encode(" 5, and the answer to 4 + 5 is 9."))
    is_hot = likelihood is Likelihood.MODEL
    drawn = await server.draw(prefix, Draw(HOT if is_hot else 1.0, 1.0, SEED, PROBE_TOKENS, ()))
    ours = sum_if_sound(drawn.log_probabilities, drawn.token_ids, drawn.token_ids)
    score = await server.score(prefix, drawn.token_ids)
    log.info("scoring", path=way, drawn=ours, scored=score, tokens=len(drawn.token_ids))
    if ours is None or score is None or abs(ours - score) > SAME * len(drawn.token_ids):
        hint = f"; allowed: {server.raw_hint}, or likelihood sampling with temperature 1" if is_hot else ""
        raise MisconfiguredError(
            f"likelihood: {len(drawn.token_ids)} tokens that the server drew have log-likelihood {ours} as drawn and "
            f"{score} as scored; the two must be of one law{hint}"
        )


def check_law(likelihood: Likelihood, temperature: float) -> None:
    """Raise MisconfiguredError if no server reports this likelihood at this temperature."""
    if likelihood is Likelihood.SAMPLING and temperature != 1:
        raise MisconfiguredError(
            f"likelihood: sampling at temperature {temperature} is not what a model server reports, which scores at "
            "temperature 1; allowed: likelihood model, or sampling with temperature 1"
        )
