"""Settings: one frozen object per process, read once from the environment variables with its prefix.

A malformed or misspelt variable stops the process with a sentence that names the variable. A job's parameters are not
settings.
"""

import difflib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, NoReturn, Self, TypeVar

from pydantic import Field, SecretStr, StringConstraints, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from gsi.algorithm.params import Likelihood
from gsi.runtime.installation import how_to_install
from gsi.runtime.tls import CertificateFiles, is_loopback
from gsi.runtime.tracing import has_exporter

S = TypeVar("S", bound=BaseSettings)

Address = Annotated[str, StringConstraints(pattern=r"^[^\s/]+:\d{1,5}$")]  # host:port
Addresses = Annotated[str, StringConstraints(pattern=r"^[^\s/,]+:\d{1,5}(,[^\s/,]+:\d{1,5})*$")]  # of replicas
CollectorUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/@]+:\d{1,5}$")]  # http://host:4317

ServerUrl = Annotated[
    str, StringConstraints(pattern=r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$")
]  # http://host:8000, no password

# Kubernetes writes such variables for every Service: for gsi-draft, GSI_DRAFT_PORT=tcp://…
_SERVICE_LINK = re.compile(r"_(SERVICE_HOST|SERVICE_PORT.*|PORT(_.*)?)$")

EXIT_BAD_SETTINGS = 78  # EX_CONFIG of sysexits.h


class ProcessSettings(BaseSettings):
    """Settings of every process."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    metrics_listen: Address = Field("127.0.0.1:0", description="host:port of /metrics; port 0 takes a free one")
    health_listen: Address | None = Field(
        None, description="host:port of a plain-text gRPC server for probes, with the health service alone"
    )
    log_format: Literal["auto", "json", "console"] = Field("auto", description="auto: console on a terminal, else json")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least level of the lines that are logged"
    )
    traces_endpoint: CollectorUrl | None = Field(
        None, description="collector that takes traces by OTLP over gRPC, such as `http://host:4317`"
    )
    traces_sample_ratio: float = Field(
        1,
        ge=0,
        le=1,
        description="share of the jobs without a `traceparent` that a coordinator traces; services do not use it",
    )
    tls_cert: Path | None = Field(None, description="PEM file of this process's certificate chain")
    tls_key: Path | None = Field(None, description="PEM file of the certificate's private key, not encrypted")
    tls_ca: Path | None = Field(None, description="PEM file of the authority whose certificates are trusted")
    plaintext: bool = Field(False, description="whether gRPC may leave this machine without TLS")

    @classmethod
    def variable(cls, name: str) -> str:
        """Return the name of a setting's environment variable."""
        return f"{cls.model_config.get('env_prefix', '')}{name}".upper()

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if any(self._tls_paths) and not all(self._tls_paths):
            names = ", ".join(self.variable(name) for name in ("tls_cert", "tls_key", "tls_ca"))
            raise ValueError(f"{names}: set all three, or none")
        return self

    @model_validator(mode="after")
    def _can_trace(self) -> Self:
        if self.traces_endpoint and not has_exporter():
            raise ValueError(
                f"{self.variable('traces_endpoint')}: needs the extra tracing, which is not installed; "
                f"{how_to_install('tracing')}"
            )
        return self

    def certificate_files(self) -> CertificateFiles | None:
        """Return the files of mutual TLS, None for plain text. Raises MisconfiguredError if they cannot be used."""
        chain, key, authority = self._tls_paths
        return CertificateFiles(chain, key, authority) if chain and key and authority else None

    @property
    def _tls_paths(self) -> tuple[Path | None, Path | None, Path | None]:
        return (self.tls_cert, self.tls_key, self.tls_ca)

    def _refuse_plaintext(self, *names: str) -> None:
        """Raise ValueError if one of these addresses is not loopback and plain text there is not allowed."""
        if all(self._tls_paths) or self.plaintext:
            return
        for name in names:
            address = getattr(self, name)
            if not all(map(is_loopback, address.split(","))):
                raise ValueError(
                    f"{self.variable(name)}: {address} is not loopback, and gRPC would be plain text; "
                    f"set {self.variable('tls_cert')} (with _KEY and _CA), or {self.variable('plaintext')}=true"
                )


class ServiceSettings(ProcessSettings):
    """Settings of every model service."""

    listen: Address = Field(description="host:port of gRPC; port 0 takes a free one")
    tls_callers: str | None = Field(
        None,
        pattern=r"^[^\s,]+(, ?[^\s,]+)*$",
        description="names of the certificates that may call, separated by commas: DNS names or URIs among their "
        "subject alternative names; unset: every certificate of the authority",
    )
    reflection: bool = Field(False, description="whether gRPC tells its services to tools such as grpcurl")
    engine: str = Field(
        "transformers",
        description="runtime of the model: `transformers`, `vllm` for production on GPUs, or `remote` for a model "
        "server that runs already",
    )
    model: str = Field(
        min_length=1,
        description="path or Hugging Face name of the checkpoint; with engine `remote`, of its tokenizer and "
        "`config.json`",
    )
    revision: str | None = Field(None, description="revision of a checkpoint with a Hugging Face name")
    chat_template: str = Field(
        "", description="chat template in place of the checkpoint's, or a file with one; unset: the checkpoint's own"
    )
    chat_template_args: str = Field(
        "", description='JSON object of arguments for the chat template, such as `{"enable_thinking": false}`'
    )
    device: str = Field(
        "cpu",
        description="device as torch names it, such as `cuda:0`, for transformers; vLLM takes `CUDA_VISIBLE_DEVICES`",
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="number format of the weights")
    num_threads: int | None = Field(None, ge=1, le=1024, description="threads of a CPU engine; unset: the runtime's")
    batching: bool = Field(
        True,
        description="whether a forward pass of the transformers engine may serve several requests; with `false` and "
        "`GSI_<ROLE>_PREFIX_CACHE_BYTES` 0, equal requests get answers that are equal to the last bit",
    )
    prefix_cache_bytes: int = Field(
        2**28,
        ge=0,
        le=2**40,
        description="memory for the keys and values of prefixes that the transformers engine keeps between calls",
    )
    engine_args: str = Field("", description="arguments of vLLM's engine, as on the command line of `vllm serve`")
    max_waiting_requests: int = Field(
        1024,
        ge=0,
        description="while more requests wait in vLLM's engine, calls get RESOURCE_EXHAUSTED with a time to come back",
    )
    remote_url: ServerUrl | None = Field(
        None, description="address of the model server of engine `remote`, such as `http://host:8000`"
    )
    remote_kind: Literal["auto", "vllm", "sglang", "llamacpp"] = Field(
        "auto", description="kind of that server; auto: as it says itself. llama.cpp's server can be a draft only"
    )
    remote_api_key: SecretStr | None = Field(None, description="API key of that server; a file is safer")
    remote_api_key_file: Path | None = Field(None, description="file with the API key of that server")
    remote_timeout_seconds: float = Field(
        300, gt=0, le=86_400, description="longest wait for an answer of that server, or for its next part"
    )
    remote_wait_seconds: float = Field(
        600, ge=0, le=86_400, description="time to wait for that server at the start, while it loads its model"
    )
    grace_seconds: float = Field(30, ge=0, le=3600, description="time to finish calls in flight after SIGTERM")
    drain_pause_seconds: float = Field(
        0,
        ge=0,
        le=600,
        description="time after SIGTERM in which the service says NOT_SERVING and still takes calls; "
        "the grace period follows",
    )
    max_connection_age_seconds: float = Field(
        60,
        ge=0.5,
        le=86_400,
        description="age at which a connection takes no more calls and its client looks up the name again; "
        "calls in flight finish",
    )
    max_concurrent_rpcs: int = Field(
        256, ge=1, le=100_000, description="calls at once; more get RESOURCE_EXHAUSTED with a time to come back"
    )
    max_peer_share: float = Field(
        0.75,
        gt=0,
        le=1,
        description="share of those calls that one caller's address may have at once; coordinators behind one address "
        "have it together",
    )
    max_call_seconds: float = Field(
        600,
        gt=0,
        le=86_400,
        description="deadline of a call on the service's side; longer than the coordinators' "
        "`GSI_COORDINATOR_<ROLE>_TIMEOUT_SECONDS`",
    )

    @model_validator(mode="after")
    def _listens_safely(self) -> Self:
        self._refuse_plaintext("listen")
        if self.tls_callers and not all(self._tls_paths):
            raise ValueError(
                f"{self.variable('tls_callers')}: without TLS a caller shows no certificate; "
                f"set {self.variable('tls_cert')} (with _KEY and _CA)"
            )
        return self

    @model_validator(mode="after")
    def _knows_the_server(self) -> Self:
        if self.engine == "remote" and self.remote_url is None:
            raise ValueError(f"{self.variable('remote_url')}: engine remote needs the address of a model server")
        if self.remote_api_key is not None and self.remote_api_key_file is not None:
            names = f"{self.variable('remote_api_key')}, {self.variable('remote_api_key_file')}"
            raise ValueError(f"{names}: set one of them, or none")
        return self

    @property
    def allowed_callers(self) -> tuple[str, ...]:
        """The names of ``tls_callers``; none if every certificate may call."""
        return tuple(name.strip() for name in self.tls_callers.split(",")) if self.tls_callers else ()


class LanguageServiceSettings(ServiceSettings):
    """Further settings of the service of a language model. The transformers engine reports every likelihood."""

    head_dtype: Literal["model", "float32"] = Field(
        "model",
        description="number format of the last layer, which makes the logits; `model`: that of the other weights",
    )
    likelihood: Likelihood = Field(
        Likelihood.SAMPLING, description="likelihood that an engine `vllm` or `remote` reports"
    )
    temperature: float = Field(
        0.7,
        gt=0,
        le=100,
        description="temperature of an engine `vllm` or `remote` with likelihood `sampling`, which refuses jobs with "
        "another one; `remote` can report that of temperature 1",
    )


def load_settings(kind: type[S], environment: Mapping[str, str] = os.environ) -> S:
    """Read the settings of this process, or print what is wrong with them on standard error and exit."""
    unknown = find_unknown_variables(kind, environment)
    if unknown:
        _refuse(unknown)
    try:
        return kind()
    except ValidationError as error:
        prefix = str(kind.model_config.get("env_prefix", ""))
        _refuse([_sentence(prefix, details) for details in error.errors()])


def find_unknown_variables(kind: type[BaseSettings], environment: Mapping[str, str]) -> list[str]:
    """Return a sentence for each variable that has the process's prefix and is not one of its settings."""
    prefix = str(kind.model_config.get("env_prefix", "")).upper()
    known = {f"{prefix}{name}".upper() for name in kind.model_fields}
    strangers = [
        name
        for name in sorted(environment)
        if name.startswith(prefix) and name not in known and not _SERVICE_LINK.search(name)
    ]
    return [f"{name}: no such setting{_suggestion(name, known)}" for name in strangers]


def _sentence(prefix: str, error: ErrorDetails) -> str:
    """Return what is wrong with a setting, never its value. An error about several settings names them itself."""
    reason = error["msg"].removeprefix("Value error, ")
    return f"{prefix}{'_'.join(map(str, error['loc']))}".upper() + f": {reason}" if error["loc"] else reason


def _suggestion(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; allowed: {', '.join(sorted(known))}"


def _refuse(sentences: list[str]) -> NoReturn:
    for sentence in sentences:
        print(f"bad setting  {sentence}", file=sys.stderr)
    sys.exit(EXIT_BAD_SETTINGS)
