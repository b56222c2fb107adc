"""``gsi keys``: keys of the gateway's users."""

import re
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from gsi.cli.terminal import RedisUrl, err, explain_errors, out, print_json, run
from gsi.client.gateway import open_api_keys
from gsi.client.sdk import DEFAULT_REDIS_URL
from gsi.errors import InvalidRequestError
from gsi.jobs.api_keys import ApiKey, Right
from gsi.jobs.connection import RedisAccess
from gsi.jobs.keys import DEFAULT_TENANT

keys = typer.Typer(no_args_is_help=True, help="Keys of the gateway's users (GSI_GATEWAY_KEYS=true).")

COLUMNS = ("id", "name", "tenant", "right", "models", "requests/min", "tokens/min", "tokens spent", "expires")
UNIT_SECONDS = {"h": 3600, "d": 86_400, "w": 604_800}


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is, in words.")],
    tenant: Annotated[str, typer.Option(help="Tenant of the key's jobs.")] = DEFAULT_TENANT,
    right: Annotated[
        Right,
        typer.Option(
            help="read: look at the tenant's jobs; submit: also ask, cancel and retry; operate: jobs of every tenant, "
            "pause and resume."
        ),
    ] = Right.SUBMIT,
    model: Annotated[list[str] | None, typer.Option(help="A model that the key may ask; repeatable. [all]")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(help="Most requests within a minute.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(help="Most tokens of all models a minute.")] = None,
    budget_tokens: Annotated[int | None, typer.Option(help="Most tokens of all models, ever.")] = None,
    expires_in: Annotated[str | None, typer.Option(metavar="TIME", help="Such as 12h, 30d or 8w. [never]")] = None,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
) -> None:
    """Make a key and print its secret, which is shown only now."""
    with explain_errors():
        allowed: dict[str, Any] = {
            "tenant": tenant,
            "right": right,
            "models": tuple(model or ()),
            "requests_per_minute": requests_per_minute,
            "tokens_per_minute": tokens_per_minute,
            "budget_tokens": budget_tokens,
            "expires_at": None if expires_in is None else int(time.time()) + _read_seconds(expires_in),
        }

        async def make() -> tuple[str, ApiKey]:
            async with open_api_keys(redis_url, RedisAccess.from_environment()) as store:
                return await store.create(name, **allowed)

        secret, key = run(make())
        err.print(f"key {key.id}; its secret is shown only now:", style="dim")
        print(secret)


@keys.command("list")
def list_keys(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array on standard output.")] = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
) -> None:
    """Show all keys, without their secrets, and the tokens that each has spent."""

    async def read() -> list[tuple[ApiKey, int]]:
        async with open_api_keys(redis_url, RedisAccess.from_environment()) as store:
            return await store.list()

    with explain_errors():
        found = run(read())
        if as_json:
            print_json([_to_dict(key, spent) for key, spent in found])
            return
        table = Table(*COLUMNS)
        for key, spent in found:
            table.add_row(*_describe(key, spent))
        out.print(table)


@keys.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID")],
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
) -> None:
    """Delete a key: the next request that shows it is refused."""

    async def delete() -> ApiKey:
        async with open_api_keys(redis_url, RedisAccess.from_environment()) as store:
            return await store.revoke(key_id)

    with explain_errors():
        err.print(f"revoked  {run(delete()).name}", markup=False, highlight=False)


def _to_dict(key: ApiKey, spent: int) -> dict[str, Any]:
    return {**key.model_dump(mode="json"), "right": key.right, "spent_tokens": spent}


def _describe(key: ApiKey, spent: int) -> tuple[str, ...]:
    return (
        key.id,
        key.name,
        key.tenant,
        key.right,
        ", ".join(key.models) or "all",
        _show(key.requests_per_minute),
        _show(key.tokens_per_minute),
        f"{spent:,}" + (f" of {key.budget_tokens:,}" if key.budget_tokens else ""),
        "never" if key.expires_at is None else f"{datetime.fromtimestamp(key.expires_at, UTC):%Y-%m-%d %H:%M} UTC",
    )


def _show(limit: int | None) -> str:
    return "no limit" if limit is None else f"{limit:,}"


def _read_seconds(given: str) -> int:
    found = re.fullmatch(r"(\d{1,6})([hdw])", given)
    if not found or not int(found[1]):
        raise InvalidRequestError(f"--expires-in {given}: not a time; allowed: a number with h, d or w, such as 30d")
    return int(found[1]) * UNIT_SECONDS[found[2]]
