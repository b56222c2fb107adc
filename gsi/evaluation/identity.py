"""What an evaluation measures: the system, its models and router by their files, the data set, the prompts, the code.

The folder keeps it. Jobs of another model, another router, another data set or other code are refused, so one table is
of one thing.
"""

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import PurePath

from gsi.algorithm.methods.arbitrage import ARBITRAGE
from gsi.algorithm.methods.single_model import DRAFT
from gsi.client.sdk import AsyncClient
from gsi.errors import InvalidRequestError, MisconfiguredError
from gsi.evaluation.problems import Problem
from gsi.evaluation.records import Identity, RecordedJob, RecordedModel
from gsi.jobs.keys import Priority
from gsi.jobs.result_document import ResultDocument
from gsi.jobs.state import JobState
from gsi.runtime.code_version import describe_code

SHOWN_DIGITS = 12  # of a digest
UNKNOWN = "unknown"
MAX_PROBES = 5


async def identify(
    client: AsyncClient, address: str, problems: Sequence[Problem], *, asks_router: bool = False
) -> tuple[Identity, str]:
    """Ask a system what it is made of, by a job of one token; return that, and the first prompt as rendered.

    A problem that cannot be asked, such as a prompt that is too long, leaves its turn to the next. ``asks_router``: a
    second job asks for the router; a system without one is identified without one, and its jobs say why they fail.
    Raises MisconfiguredError if none of the first ``MAX_PROBES`` can.
    """
    for problem in problems[:MAX_PROBES]:
        result = await _probe(client, problem, DRAFT.name)
        if result.state is JobState.SUCCEEDED:
            break
    else:
        raise MisconfiguredError(f"the system cannot answer the first problems: {result.state}: {result.error}")
    identity = Identity(
        system=address,
        models={role: RecordedModel.model_validate(model) for role, model in (result.models or {}).items()},
        dataset=digest_problems(problems),
        template=describe_template(problems),
        code=describe_code(),
        coordinator_code=result.code or "",
        router=((await _probe(client, problem, ARBITRAGE.name)).router or "") if asks_router else "",
    )
    return identity, result.rendered_prompt or "\n".join(filter(None, (problem.system, problem.prompt)))


async def _probe(client: AsyncClient, problem: Problem, method: str) -> ResultDocument:
    job_id = await client.submit(
        {
            "id": f"eval-probe-{secrets.token_hex(8)}",
            "prompt": problem.prompt,
            "system": problem.system,
            "priority": Priority.HIGH,
            "params": {"method": method, "n": 1, "max_steps": 1, "max_step_tokens": 1, "keep_candidates": True},
        }
    )
    result = ResultDocument.model_validate((await client.wait(job_id)).to_dict())
    await client.forget(job_id)
    return result


def digest_problems(problems: Sequence[Problem]) -> str:
    """Return the SHA-256 of all that is asked and expected, in hexadecimal; the order of problems matters."""
    return hashlib.sha256(json.dumps([asdict(problem) for problem in problems]).encode()).hexdigest()


def describe_template(problems: Sequence[Problem]) -> str:
    """Return the system message of the prompts; the chat template is one of the tokenizer's files."""
    return " | ".join(sorted({problem.system or "no system message" for problem in problems}))


def refuse_other(there: Identity | None, here: Identity, path: str) -> None:
    """Raise InvalidRequestError that names every difference between a folder's identity and that of its next jobs.

    ``there`` None: the records were made before folders had an identity.
    """
    if there is None:
        raise InvalidRequestError(
            f"out: {path} has records of unknown models (an older gsi made them); allowed: another folder (--out)"
        )
    if differences := list(list_differences(there, here)):
        raise InvalidRequestError(
            f"out: {path} holds an evaluation of something else ({'; '.join(differences)}); "
            "allowed: the same, or another folder (--out)"
        )


def list_differences(there: Identity, here: Identity) -> Iterator[str]:
    """Yield a phrase for each fact that differs."""
    for name in Identity.model_fields:
        if name == "models":
            yield from list_model_differences(there.models, here.models)
        elif getattr(there, name) != getattr(here, name):
            yield f"{name}: {_shorten(getattr(there, name))} there, {_shorten(getattr(here, name))} here"


def list_model_differences(there: Mapping[str, RecordedModel], here: Mapping[str, RecordedModel]) -> Iterator[str]:
    """Yield a phrase for each field of each role's model that differs, or for a role that only one side has."""
    for role in dict.fromkeys((*there, *here)):
        if role not in there or role not in here:
            yield f"{role}: only {'there' if role in there else 'here'}"
            continue
        for name in RecordedModel.model_fields:
            one, other = getattr(there[role], name), getattr(here[role], name)
            if one != other:
                yield f"{role}.{name}: {_shorten(one)} there, {_shorten(other)} here"


def refuse_other_models(like: Identity | None, here: Identity) -> None:
    """Raise InvalidRequestError unless a system has the models of an earlier evaluation (None: they are unknown)."""
    if like and (differences := list(list_model_differences(like.models, here.models))):
        raise InvalidRequestError(
            f"models: others than those of the records ({'; '.join(differences)}); allowed: the models of the records"
        )


def refuse_stranger(identity: Identity | None, job: RecordedJob) -> None:
    """Raise InvalidRequestError if a job had other models, router or coordinator than those identified."""
    if identity is None or job.state is not JobState.SUCCEEDED:
        return  # a failed job does not say who tried
    differences = list(list_model_differences(identity.models, job.models))
    if (job.code or "") != identity.coordinator_code:
        differences.append(f"coordinator_code: {identity.coordinator_code} there, {job.code} here")
    if job.router and job.router != identity.router:
        differences.append(f"router: {_shorten(identity.router)} there, {_shorten(job.router)} here")
    if differences:
        raise InvalidRequestError(
            f"the system changed during the evaluation ({'; '.join(differences)}); allowed: the models it began with"
        )


def describe_identity(identity: Identity, dataset: str) -> str:
    """Return one line of everything that was measured."""
    models = "; ".join(f"{role} {describe_model(model)}" for role, model in identity.models.items())
    if identity.router:
        models += f"; router {_shorten(identity.router)}"
    code = f"code {identity.code}"
    if identity.coordinator_code != identity.code:
        code += f", coordinator {identity.coordinator_code or UNKNOWN}"
    return (
        f"{identity.system}: {models}; data set {dataset} ({_shorten(identity.dataset)}), "
        f'system message "{identity.template}"; {code}'
    )


def describe_model(model: RecordedModel) -> str:
    """Return a model's name, revision, engine, dtype, fingerprint, and how it reads steps if not as usual."""
    name = PurePath(model.model).name if PurePath(model.model).is_absolute() else model.model
    engine = " ".join(filter(None, (model.engine, model.engine_version)))
    files = f"files {_shorten(model.checkpoint_fingerprint)}"
    reading = f"steps read as {model.reading}" if model.reading else ""
    told = filter(None, (model.revision or UNKNOWN, engine, model.dtype or UNKNOWN, files, reading))
    return f"{name} ({', '.join(told)})"


def _shorten(value: object) -> str:
    """Return a value as it is read; of a digest the first digits."""
    text = str(value) or UNKNOWN
    is_digest = len(text) == hashlib.sha256().digest_size * 2 and text.isalnum()
    return text[:SHOWN_DIGITS] if is_digest else text
