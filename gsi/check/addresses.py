"""Where the services are: the coordinator's settings, ``GSI_COORDINATOR_…``, of which this needs a part."""

from collections.abc import Mapping
from typing import Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import SettingsConfigDict

from gsi.errors import MisconfiguredError
from gsi.runtime.settings import Address, ProcessSettings


class ServiceAddresses(ProcessSettings):
    """Addresses, deadlines and certificates as the coordinator has them."""

    model_config = SettingsConfigDict(env_prefix="GSI_COORDINATOR_", frozen=True, extra="ignore")

    draft: Address
    target: Address
    prm: Address
    draft_timeout_seconds: float = Field(120, gt=0, le=3600)
    target_timeout_seconds: float = Field(120, gt=0, le=3600)
    prm_timeout_seconds: float = Field(120, gt=0, le=3600)

    @model_validator(mode="after")
    def _calls_safely(self) -> Self:
        self._refuse_plaintext("draft", "target", "prm")
        return self


def read_addresses(given: Mapping[str, str | None]) -> ServiceAddresses:
    """Return the addresses that are given, by role, and else those of the environment.

    Raises MisconfiguredError that names the variables at fault.
    """
    known = {role: address for role, address in given.items() if address}
    try:
        return ServiceAddresses(**known)  # type: ignore[arg-type]  # of the roles, which are addresses
    except ValidationError as error:
        raise MisconfiguredError(
            "; ".join(_sentence(details["loc"], details["msg"]) for details in error.errors())
        ) from None


def _sentence(place: tuple[int | str, ...], message: str) -> str:
    reason = message.removeprefix("Value error, ")
    if not place:
        return reason
    return f"{ServiceAddresses.variable(str(place[0]))}: {reason}; allowed: host:port, or --{place[0]}"
