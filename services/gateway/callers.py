"""The caller of a route: known, and allowed to do what the route does, before the body is looked at."""

from typing import Annotated, Any

from fastapi import Depends, Request

from gsi.jobs.api_keys import Right
from services.gateway.guard import Caller, Guard


def caller_type(guard: Guard, right: Right = Right.READ) -> Any:
    """Return the type of a parameter that is the caller, who has the right; ApiError 401 or 403 answers any other."""

    async def identify(request: Request) -> Caller:
        found = await guard.identify(request.headers.get("authorization"))
        request.state.caller = found
        found.require(right)
        return found

    return Annotated[Caller, Depends(identify)]
