"""Mutual TLS between coordinator and services, renewal of certificates, refusal of plain text, and keepalive."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from structlog.testing import capture_logs

from gsi.client.sdk import AsyncClient
from gsi.errors import MisconfiguredError, RetryableError
from gsi.jobs.state import JobState
from gsi.local.demo import held_out_problems
from gsi.local.stack import local_stack
from gsi.rpc.clients import DraftClient
from gsi.rpc.connection import CHANNEL_OPTIONS
from gsi.rpc.server import SERVER_OPTIONS
from gsi.runtime.settings import EXIT_BAD_SETTINGS
from services.coordinator.models import open_models
from services.coordinator.settings import CoordinatorSettings
from tests.certificates import DAY, LOOPBACK, Authority, Paths
from tests.conftest import wait_until
from tests.runtime.test_settings import GOOD, start
from tests.services.conftest import ROLES, serving_role
from tests.services.test_model_services import SAMPLING, EndlessEngine, serving_engine


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@asynccontextmanager
async def calling(address: str, paths: Paths | None) -> AsyncIterator[DraftClient]:
    client = DraftClient(address, 10.0, paths.files() if paths else None)
    yield client
    await client.close()


async def fetch_certificate(address: str) -> str:
    """Return the certificate that a server shows a new connection, as PEM."""
    host, _, port = address.rpartition(":")
    return (await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))).strip()


async def test_the_coordinators_clients_work_with_certificates_of_one_authority(authority: Authority) -> None:
    """They call draft, target and PRM over mutual TLS, with the settings of real processes."""
    own = authority.issue("coordinator")
    addresses: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        for role in ROLES:
            server = await stack.enter_async_context(serving_role(role, **authority.issue(role).settings()))
            kind: Any = ROLES[role][1]
            client = kind(server.address, 10.0, own.files())
            stack.push_async_callback(client.close)
            await wait_until(client.is_serving, f"{role} serves")  # one process loads one model at a time
            addresses[role] = server.address
        models = await stack.enter_async_context(open_models(CoordinatorSettings(**addresses, **own.settings())))
        await models.connect()
        assert models.limits.max_length > 0


async def test_whom_a_service_does_not_trust_is_refused(authority: Authority, tmp_path: Path) -> None:
    """Without TLS or a certificate, or with a foreign or expired one, a call is UNAVAILABLE, with the reason."""
    stranger = Authority(tmp_path).issue("stranger")
    refused = {
        "plain": None,
        "foreign": Paths(stranger.chain, stranger.key, authority.path),
        "expired": authority.issue("expired", ends_in=-DAY),
    }
    async with serving_engine(EndlessEngine(), **authority.issue("draft").settings()) as server:
        async with calling(server.address, authority.issue("coordinator")) as client:
            await wait_until(client.is_serving, "serving")
        for paths in refused.values():
            async with calling(server.address, paths) as client:
                with pytest.raises(RetryableError, match="refuses connections: it may want TLS, or not trust our"):
                    await client.model_info()
                assert not await client.is_serving()
                assert "not trust our certificate; its log says why" in client.why_not_serving
        credentials = grpc.ssl_channel_credentials(authority.path.read_bytes())  # a client without a certificate
        async with grpc.aio.secure_channel(server.address, credentials) as channel:
            check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await check(b"")
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


SPIFFE = "spiffe://example.com/ns/math/sa/gsi-coordinator"
MODEL_CERTIFICATE = "the caller's certificate is for localhost, gsi-draft (common name draft)"


def hosts(*names: str) -> x509.SubjectAlternativeName:
    """Return loopback and further names: DNS names, or URIs."""
    further = [x509.UniformResourceIdentifier(name) if "://" in name else x509.DNSName(name) for name in names]
    return x509.SubjectAlternativeName([*LOOPBACK, *further])


async def test_a_model_s_certificate_may_not_call_a_model_and_a_coordinator_s_may(authority: Authority) -> None:
    """By a DNS name or by a URI. The refusal says whose certificate came and what is allowed; health has no roles."""
    model = authority.issue("draft", hosts=hosts("gsi-draft"))
    allowed = {"tls_callers": f"gsi-coordinator, {SPIFFE}"}
    async with serving_engine(EndlessEngine(), **model.settings(), **allowed) as server:
        for name in ("gsi-coordinator", SPIFFE):
            own = authority.issue("any", hosts=hosts(name))
            async with calling(server.address, own) as client:
                await wait_until(client.is_serving, "serving")
                assert (await client.model_info()).model
        with capture_logs() as logs:
            async with calling(server.address, model) as client:
                assert await client.is_serving()
                sentence = f"{MODEL_CERTIFICATE}; allowed: gsi-coordinator, {SPIFFE} (TLS_CALLERS)"
                with pytest.raises(MisconfiguredError, match=re.escape(f"draft: PERMISSION_DENIED: {sentence}")):
                    await client.model_info()
                for _ in range(2):
                    with pytest.raises(RetryableError, match="PERMISSION_DENIED") as raised:
                        await anext(client.propose((1,), 1, SAMPLING, 0))
                    assert not raised.value.has_reached
        refusals = [entry for entry in logs if entry["event"] == "a caller's certificate has another role"]
        assert len(refusals) == 1


async def test_names_are_compared_whole_and_the_common_name_is_none(authority: Authority) -> None:
    """Neither the name as a common name, nor a longer, shorter or other kind of name, gives rights."""
    almost = ("gsi-coordinator.other", "coordinator", "*", "spiffe://gsi-coordinator", "https://x/gsi-coordinator")
    async with serving_engine(
        EndlessEngine(), **authority.issue("draft").settings(), tls_callers="gsi-coordinator"
    ) as server:
        async with calling(server.address, authority.issue("x", hosts=hosts("gsi-coordinator"))) as client:
            await wait_until(client.is_serving, "serving")
        for name in almost:
            async with calling(server.address, authority.issue("gsi-coordinator", hosts=hosts(name))) as client:
                with pytest.raises(MisconfiguredError, match="common name gsi-coordinator"):
                    await client.model_info()


@pytest.mark.parametrize("fault", ["expired", "foreign", "plain"])
async def test_a_service_that_we_do_not_trust_is_not_called(authority: Authority, tmp_path: Path, fault: str) -> None:
    """Its certificate is expired or foreign, or it speaks plain text, and the error says which."""
    settings = {
        "expired": authority.issue("draft", ends_in=-DAY).settings(),
        "foreign": Authority(tmp_path).issue("draft").settings(),
        "plain": {},
    }
    sentence = {
        "expired": "certificate has expired",
        "foreign": "unable to get local issuer",
        "plain": "WRONG_VERSION_NUMBER",
    }
    async with (
        serving_engine(EndlessEngine(), **settings[fault]) as server,
        calling(server.address, authority.issue("coordinator")) as client,
    ):

        async def is_told() -> bool:
            assert not await client.is_serving()
            return sentence[fault] in client.why_not_serving

        await wait_until(is_told, "the reason is told")
        with pytest.raises(RetryableError, match=sentence[fault]):
            await client.model_info()


async def test_a_service_shows_its_new_certificate_without_a_restart(authority: Authority, tmp_path: Path) -> None:
    """New connections get it once chain and key fit together; a call on the old connection goes on."""
    used, new, engine = authority.issue("draft"), authority.issue("draft"), EndlessEngine()
    before = used.chain.read_text().strip()
    async with (
        serving_engine(engine, grace_seconds=0, **used.settings()) as server,
        calling(server.address, authority.issue("coordinator")) as client,
    ):
        await wait_until(client.is_serving, "serving")
        stream = client.propose((1,), 1, SAMPLING, 0)
        await anext(stream)
        assert await fetch_certificate(server.address) == before

        used.chain.write_bytes(new.chain.read_bytes())  # and its key is still the old one
        assert await fetch_certificate(server.address) == before
        used.key.write_bytes(new.key.read_bytes())
        assert await fetch_certificate(server.address) == new.chain.read_text().strip()

        assert engine.is_working
        async with calling(server.address, authority.issue("coordinator")) as another:
            assert await another.is_serving()
        await stream.aclose()


async def test_a_client_uses_its_new_certificate_without_a_restart(authority: Authority) -> None:
    """A client with an expired certificate is served once the files are replaced; a call in flight goes on."""
    used, engine = authority.issue("coordinator", ends_in=-DAY), EndlessEngine()
    async with serving_engine(engine, grace_seconds=0, **authority.issue("draft").settings()) as server:
        async with calling(server.address, authority.issue("coordinator")) as probe:
            await wait_until(probe.is_serving, "serving")
        async with calling(server.address, used) as client:
            assert not await client.is_serving()
            used.replace_by(authority.issue("coordinator"))
            await wait_until(client.is_serving, "served with the new certificate")

            stream = client.propose((1,), 1, SAMPLING, 0)
            await anext(stream)
            used.replace_by(authority.issue("coordinator"))
            assert await client.is_serving()
            assert engine.is_working
            await stream.aclose()


def test_files_that_cannot_be_used_are_refused_by_name(authority: Authority, tmp_path: Path) -> None:
    """A file may be missing, be no certificate, or be the key of another certificate."""
    paths = authority.issue("draft")
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    wrong = {
        r"certificate .*absent\.pem: No such file": Paths(tmp_path / "absent.pem", paths.key, paths.authority),
        r"authority .*nonsense\.pem": Paths(paths.chain, paths.key, nonsense),
        r"with key .*: \[X509: KEY_VALUES_MISMATCH": Paths(paths.chain, authority.issue("a").key, paths.authority),
    }
    for sentence, given in wrong.items():
        with pytest.raises(MisconfiguredError, match=sentence):
            given.files()


def test_files_are_read_anew_only_when_they_change(authority: Authority) -> None:
    """A certificate with another key is ignored, with one warning."""
    used, new = authority.issue("draft"), authority.issue("draft")
    files = used.files()
    first = files.current()
    assert files.current() is first
    used.chain.write_bytes(new.chain.read_bytes())
    with capture_logs() as logs:
        assert files.current() is first
        assert files.current() is first
    assert [entry["event"] for entry in logs] == ["new certificates cannot be used; going on with the old ones"]
    used.key.write_bytes(new.key.read_bytes())
    assert files.current().chain == new.chain.read_bytes()
    assert "PRIVATE" not in repr(files.current())


COORDINATOR = {f"GSI_COORDINATOR_{role.upper()}": "127.0.0.1:1" for role in ROLES}


@pytest.mark.parametrize(
    ("module", "settings", "named"),
    [
        (
            "services.draft",
            GOOD | {"GSI_DRAFT_LISTEN": "0.0.0.0:0"},
            ["GSI_DRAFT_LISTEN: 0.0.0.0:0", "GSI_DRAFT_TLS_CERT", "GSI_DRAFT_PLAINTEXT=true"],
        ),
        (
            "services.coordinator",
            COORDINATOR | {"GSI_COORDINATOR_PRM": "prm.example:50053"},
            ["GSI_COORDINATOR_PRM: prm.example:50053", "GSI_COORDINATOR_TLS_CERT", "GSI_COORDINATOR_PLAINTEXT=true"],
        ),
        (
            "services.draft",
            GOOD | {"GSI_DRAFT_TLS_CERT": "draft.pem"},
            ["GSI_DRAFT_TLS_CERT, GSI_DRAFT_TLS_KEY, GSI_DRAFT_TLS_CA: set all three, or none"],
        ),
        (
            "services.draft",
            GOOD | {"GSI_DRAFT_TLS_CALLERS": "gsi-coordinator"},
            ["GSI_DRAFT_TLS_CALLERS: without TLS a caller shows no certificate", "GSI_DRAFT_TLS_CERT"],
        ),
        ("services.draft", GOOD | {"GSI_DRAFT_TLS_CALLERS": ""}, ["GSI_DRAFT_TLS_CALLERS: "]),
    ],
)
def test_a_process_refuses_plain_text_beyond_loopback(module: str, settings: dict[str, str], named: list[str]) -> None:
    """It exits with the code of a bad setting, and one sentence names the settings that help."""
    refused = start(module, settings)
    assert refused.returncode == EXIT_BAD_SETTINGS
    assert len(refused.stderr.splitlines()) == 1
    assert all(name in refused.stderr for name in named)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"])
def test_plain_text_on_loopback_needs_no_word(address: str) -> None:
    """Processes on one machine trust each other, as in the README."""
    assert CoordinatorSettings(draft=address, target=address, prm=address).certificate_files() is None


def test_plain_text_beyond_loopback_can_be_asked_for() -> None:
    """The network may encrypt, as a service mesh does."""
    address = "10.0.0.7:50051"
    assert CoordinatorSettings(draft=address, target=address, prm=address, plaintext=True).plaintext


async def test_the_whole_system_runs_over_mutual_tls(authority: Authority, tmp_path: Path) -> None:
    """Four processes with certificates and roles run a job; a service logs why it refuses a stranger.

    A coordinator with a model's certificate does not start, and says why.
    """
    settings: dict[str, str] = {}
    for role in (*ROLES, "coordinator"):
        settings |= authority.issue(role, hosts=hosts(f"gsi-{role}")).settings(f"GSI_{role.upper()}_")
    settings |= {f"GSI_{role.upper()}_TLS_CALLERS": "gsi-coordinator" for role in ROLES}
    async with (
        local_stack(tmp_path, lambda *_: None, settings=settings) as stack,
        AsyncClient(stack.redis_url) as client,
    ):
        job_id = await client.submit({"prompt": held_out_problems(1)[0]["prompt"], "params": {"n": 2, "seed": 1}})
        assert (await client.wait(job_id, 60)).state is JobState.SUCCEEDED
        async with calling(stack.addresses["draft"], authority.issue("late", ends_in=-DAY)) as late:
            assert not await late.is_serving()

        async def is_told() -> bool:
            return "certificate has expired" in (tmp_path / "draft.log").read_text()

        await wait_until(is_told, "the log has the reason")
        chosen: dict[str, Any] = authority.issue("draft", hosts=hosts("gsi-draft")).settings()
        async with open_models(CoordinatorSettings(**{**stack.addresses, **chosen})) as models:
            with pytest.raises(MisconfiguredError, match=re.escape(MODEL_CERTIFICATE)):
                await models.connect()


SILENCE_SECONDS = 6.5  # gRPC sends at most a ping a second, and answers a handful too many with GOAWAY


async def test_a_server_lets_the_clients_keepalive_pings_pass() -> None:
    """With our options, 100 times faster, a silent call lives; with gRPC's defaults the server ends it."""
    ours, grpcs_own = await asyncio.gather(_silent_call(_faster(SERVER_OPTIONS)), _silent_call([]))
    assert (ours, grpcs_own) == ("done", "Too many pings")


async def _silent_call(server_options: list[tuple[str, int]]) -> str:
    """Return the answer to a call without data, or the reason why there is none."""

    async def silent(request: bytes, context: Any) -> bytes:
        await asyncio.sleep(SILENCE_SECONDS)
        return b"done"

    server = grpc.aio.server(options=server_options)
    methods: dict[str, Any] = {"Call": grpc.unary_unary_rpc_method_handler(silent)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Silent", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=_faster(CHANNEL_OPTIONS)) as channel:
        call: Any = channel.unary_unary("/test.Silent/Call")
        try:
            return bytes(await call(b"")).decode()
        except grpc.aio.AioRpcError as error:
            return str(error.details())
        finally:
            await server.stop(None)


def _faster(options: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    intervals = {"grpc.keepalive_time_ms", "grpc.http2.min_ping_interval_without_data_ms"}
    return [(name, value // 100 if name in intervals else value) for name, value in options]
