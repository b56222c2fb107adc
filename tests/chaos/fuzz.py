"""Payloads that must be refused, each with words that the refusal must contain: the field at fault, above all."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

from gsi.jobs.job_params import JobParams

Bad = tuple[bytes, str]

NOT_JSON = "job: not JSON"
LETTERS = "abcdefghijklmnopqrstuvwxyz_"
NUMBERS = ("n", "n_target", "beam_width", "max_steps", "max_tokens", "max_step_tokens", "seed", "beta", "temperature")


def bad_payload(random: Random) -> Bad:
    """Return a payload of a random kind."""
    return random.choice(KINDS)(random)


def huge_payload(num_bytes: int) -> bytes:
    """Return a payload that is refused for its size, before anybody reads it."""
    return b'{"prompt":"' + b"x" * num_bytes + b'"}'


def _random_bytes(random: Random) -> Bad:
    return b"\xff" + random.randbytes(random.randrange(200)), NOT_JSON  # 0xff is never part of UTF-8


def _cut_off(random: Random) -> Bad:
    whole = json.dumps({"prompt": "x", "params": {"n": 4}})
    return whole[: random.randrange(len(whole))].encode(), NOT_JSON


def _damaged(random: Random) -> Bad:
    whole = bytearray(json.dumps({"prompt": "x" * 20, "params": {"n": 4}}).encode())
    whole[random.randrange(len(whole))] = random.choice(b"\x00\x01\x1f")  # allowed nowhere in JSON, raw
    return bytes(whole), NOT_JSON


def _nested(random: Random) -> Bad:
    start, end = random.choice([("[", "]"), ('{"prompt":', "}"), ('{"params":', "}")])
    depth = random.choice([1_000, 10_000, 100_000])
    return (start * depth + "1" + random.choice(["", end * depth])).encode(), "job: "


def _not_an_object(random: Random) -> Bad:
    return json.dumps(random.choice([None, True, 0, -1.5, "text", [], [{}], "\x00"])).encode(), "job: "


def _wrong_prompt(random: Random) -> Bad:
    value = random.choice([None, True, 7, 1.5, [], {}, ["x"], {"text": "x"}, ""])
    return _payload({"prompt": value}), "prompt: "


def _long_prompt(random: Random) -> Bad:
    return _payload({"prompt": "x" * (1_000_001 + random.randrange(1000))}), "prompt: "


def _wrong_field(random: Random) -> Bad:
    name = random.choice(["system", "params", "deadline_seconds", "result_ttl_seconds"])
    return _payload({"prompt": "x", name: random.choice([[], ["x"], True])}), f"{name}: "


def _wrong_parameter(random: Random) -> Bad:
    name = random.choice(list(JobParams.model_fields))
    return _payload({"prompt": "x", "params": {name: {"x": random.randrange(9)}}}), f"params.{name}: "


def _out_of_range(random: Random) -> Bad:
    name = random.choice(NUMBERS)
    value = random.choice(["-1", "-1e308", "1e308", "1e999", "NaN", "-Infinity", "9" * 400, '"4"', "{}"])
    return f'{{"prompt":"x","params":{{"{name}":{value}}}}}'.encode(), f"params.{name}: "


def _unknown(random: Random) -> Bad:
    name = "x" + "".join(random.choices(LETTERS, k=8))
    where: dict[str, Any] = {"prompt": "x"}
    if random.random() < 0.5:
        return _payload(where | {name: 1}), f"{name}: unknown"
    return _payload(where | {"params": {name: 1}}), f"params.{name}: unknown"


def _many_unknown(random: Random) -> Bad:
    names = {f"x{number}": 1 for number in range(random.choice([20, 10_000, 50_000]))}
    return _payload({"prompt": "x", "params": names}), " more" if len(names) == 20 else "job: too many names"


def _future_version(random: Random) -> Bad:
    return _payload({"v": random.choice([2, 3, 0, -1, 10**18, "1", 1.5, None]), "prompt": "x"}), "v: "


def _bad_id(random: Random) -> Bad:
    value = random.choice(["", "a\x00b", "../../etc", "x" * 65, "a b", "{default}", 7, ["x"], "ä"])
    return _payload({"id": value, "prompt": "x"}), "id: "


def _bad_pattern(random: Random) -> Bad:
    value = random.choice(["(", "[", "*", "(?<=x)y", "(x)\\1", "x" * 1001, ""])
    return _payload({"prompt": "x", "params": {"answer_pattern": value}}), "params.answer_pattern: "


def _payload(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode()


KINDS: tuple[Callable[[Random], Bad], ...] = (
    _random_bytes,
    _cut_off,
    _damaged,
    _nested,
    _not_an_object,
    _wrong_prompt,
    _long_prompt,
    _wrong_field,
    _wrong_parameter,
    _out_of_range,
    _unknown,
    _many_unknown,
    _future_version,
    _bad_id,
    _bad_pattern,
)
