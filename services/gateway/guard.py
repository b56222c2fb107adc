"""Who may ask what: keys, the models they allow, their rates and budgets. Without keys all is one tenant's."""

from dataclasses import dataclass, field

from gsi.client.rates import Rates, Window
from gsi.jobs.api_keys import ApiKey, ApiKeys, Right, digest_of
from gsi.jobs.keys import DEFAULT_TENANT
from services.gateway import metrics
from services.gateway.errors import ApiError
from services.gateway.presets import Preset
from services.gateway.tokens import Tokens

MAX_SECRET_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request it is. ``key`` None: the gateway asks for none."""

    tenant: str = DEFAULT_TENANT
    key: ApiKey | None = None
    digest: str = field(default="", repr=False)
    spent: int = 0

    def allows(self, model: str) -> bool:
        return self.key is None or self.key.allows(model)

    @property
    def rights(self) -> tuple[Right, ...]:
        """What the caller may do: without keys everything."""
        return (self.key.right if self.key else Right.OPERATE).included

    def sees(self, tenant: str) -> bool:
        """Return whether the caller may look at the jobs of a tenant."""
        return tenant == self.tenant or Right.OPERATE in self.rights

    def require(self, right: Right) -> None:
        """Raise ApiError 403 unless the caller has the right."""
        if right not in self.rights:
            message = f"this key has the right {self.rights[-1]}; allowed: a key with the right {right}"
            raise ApiError(403, message, kind="permission_error", code="right_missing")


class Guard:
    """Looks at the key of each request, and counts against it. None: no key is asked for."""

    def __init__(self, presets: dict[str, Preset], keys: ApiKeys | None, rates: Rates | None) -> None:
        self._presets = presets
        self._keys = keys
        self._rates = rates

    @property
    def needs_key(self) -> bool:
        return self._keys is not None

    async def identify(self, authorization: str | None) -> Caller:
        """Return whose request it is. Raises ApiError 401 for a missing, unknown, revoked or expired key."""
        if self._keys is None:
            return Caller()
        scheme, _, secret = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not secret:
            raise _unauthorized("no key; allowed: a header Authorization: Bearer KEY", None)
        found = await self._keys.find(secret.strip()) if len(secret) <= MAX_SECRET_CHARACTERS else None
        if found is None:
            raise _unauthorized("unknown or revoked key", "invalid_api_key")
        key, spent = found
        if key.is_expired:
            raise _unauthorized(f"key {key.id} has expired", "invalid_api_key")
        return Caller(key.tenant, key, digest_of(secret.strip()), spent)

    def list_models(self, caller: Caller) -> dict[str, Preset]:
        """Return the models that the caller may ask."""
        return {name: preset for name, preset in self._presets.items() if caller.allows(name)}

    def find_model(self, caller: Caller, name: str) -> Preset:
        """Return a model. Raises ApiError 404 if there is none of this name, 403 if the key does not allow it."""
        preset = self._presets.get(name)
        if preset is None:
            allowed = ", ".join(self.list_models(caller))
            raise ApiError(
                404, f"model: no model {name[:100]}; allowed: {allowed}", param="model", code="model_not_found"
            )
        if not caller.allows(name):
            message = f"model: this key may not ask {name}"
            raise ApiError(403, message, kind="permission_error", param="model", code="model_not_allowed")
        return preset

    async def admit(self, caller: Caller) -> dict[str, str]:
        """Count a request; return the headers that tell what is left. Raises ApiError 429 if nothing is left."""
        key = caller.key
        if key is None or self._rates is None:
            return {}
        if key.budget_tokens is not None and caller.spent >= key.budget_tokens:
            metrics.LIMITED.labels("budget").inc()
            message = f"key {key.id} has spent its budget of {key.budget_tokens} tokens"
            raise ApiError(429, message, kind="insufficient_quota", code="insufficient_quota")
        headers: dict[str, str] = {}
        if key.tokens_per_minute is not None:
            window = await self._rates.look_at_tokens(key.id, key.tokens_per_minute)
            headers |= _describe("tokens", window)
        if key.requests_per_minute is not None:
            window = await self._rates.take_request(key.id, key.requests_per_minute)
            headers |= _describe("requests", window)
        return headers

    async def count(self, key: ApiKey | None, digest: str, tokens: Tokens) -> None:
        """Count tokens against a key, the digest of whose secret is given."""
        if key is not None and self._keys is not None and tokens.total:
            await self._keys.spend(digest, tokens.total)
        await self.note(key, tokens)

    async def note(self, key: ApiKey | None, tokens: Tokens) -> None:
        """Count tokens that the key's budget has paid: in the metrics, and against the key's minute."""
        for role in Tokens.__dataclass_fields__:
            metrics.TOKENS.labels(role=role).inc(getattr(tokens, role))
        metrics.observe_tenant_tokens(DEFAULT_TENANT if key is None else key.tenant, tokens.total)
        if key is not None and self._rates is not None and key.tokens_per_minute is not None and tokens.total:
            await self._rates.use_tokens(key.id, key.tokens_per_minute, tokens.total)


def _describe(what: str, window: Window) -> dict[str, str]:
    """Return the headers of a window. Raises ApiError 429 if it is exceeded."""
    headers = {
        f"x-ratelimit-limit-{what}": str(window.limit),
        f"x-ratelimit-remaining-{what}": str(window.remaining),
        f"x-ratelimit-reset-{what}": f"{window.reset_seconds:g}s",
    }
    if window.is_exceeded:
        metrics.LIMITED.labels(what).inc()
        headers["Retry-After"] = str(max(1, round(window.reset_seconds)))
        message = f"rate limit of {window.limit} {what} a minute is reached; come back in {headers['Retry-After']} s"
        raise ApiError(429, message, kind=what, code="rate_limit_exceeded", headers=headers)
    return headers


def _unauthorized(message: str, code: str | None) -> ApiError:
    return ApiError(401, message, kind="authentication_error", code=code, headers={"WWW-Authenticate": "Bearer"})
