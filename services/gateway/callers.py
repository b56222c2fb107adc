"""The caller of a route: known, and allowed to do what the route does, before the body is looked at."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, FastAPI, Request

from gsi.jobs.api_keys import Right
from services.gateway.guard import Caller, Guard


def let_in(app: FastAPI, guard: Guard) -> None:
    """Let ``guard`` say who calls the routes of ``app``."""
    app.state.guard = guard


def _with_right(right: Right) -> Callable[[Request], Awaitable[Caller]]:
    async def identify(request: Request) -> Caller:
        guard: Guard = request.app.state.guard
        found = await guard.identify(request.headers.get("authorization"))
        request.state.caller = found
        found.require(right)
        return found

    return identify


# The type of a route's parameter. ApiError 401 or 403 answers anybody else.
Reader = Annotated[Caller, Depends(_with_right(Right.READ))]
Submitter = Annotated[Caller, Depends(_with_right(Right.SUBMIT))]
Operator = Annotated[Caller, Depends(_with_right(Right.OPERATE))]
