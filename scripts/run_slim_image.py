"""Check that the processes of an unpacked slim image work: ``python scripts/run_slim_image.py ROOT IMAGE``.

ROOT is the image's root file system, IMAGE the output of ``buildah inspect``. The processes run as in a pod: with a
read-only root file system, /tmp in memory, the image's user and no capabilities. Redis and the model services run
outside the image. Needs root, for the mounts. Exits with 1 and a message if a check fails.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gsi.local.embedded_redis import free_port
from gsi.local.stack import ROLES, Stack, local_stack

# The mounts that a container engine makes before it starts a process. They need their own mount namespace.
ENTER = """
set -eu
mount --bind "$0" "$0"
mount --rbind /proc "$0/proc"
mount --rbind /sys "$0/sys"
mount --rbind /dev "$0/dev"
mount -t tmpfs -o mode=1777 tmpfs "$0/tmp"
mount -o remount,bind,ro "$0"
exec setpriv --no-new-privs --inh-caps=-all /usr/sbin/chroot --groups= "$@"
"""
PROMPT = (
    "On Sunday Mia has 7 shells. On Monday Tom brings her 4 bags of 3 shells. "
    "On Tuesday she loses 9 shells. On Wednesday she doubles the shells. How many shells does Mia have at the end?"
)
TIMEOUT_SECONDS = 120.0

WRITES_NOWHERE = """
import errno
try:
    open("/app/file", "w")
except OSError as error:
    assert error.errno == errno.EROFS, error
else:
    raise SystemExit("the root file system can be written to")
open("/tmp/file", "w").close()
"""

IMPORTS_LATE = r"""
import opentelemetry.exporter.otlp.proto.grpc.trace_exporter, opentelemetry.sdk.trace.export
from gsi.grading.mathematics import are_equal
assert are_equal(r"\frac{\sqrt{3}}{2}", r"\sin(\pi/3)")
"""

# The image has the descriptions of a few services of AWS only.
OPENS_A_BUCKET = """
import asyncio
from aiobotocore.session import get_session
async def open_clients():
    for service in ("s3", "sts", "sso", "sso-oidc", "signin"):
        async with get_session().create_client(service, region_name="eu-central-1"):
            pass
asyncio.run(open_clients())
import fsspec
fsspec.filesystem("s3", anon=True)
"""


@dataclass(frozen=True)
class Image:
    """An unpacked image."""

    root: Path
    environment: Mapping[str, str]
    user: str
    command: Sequence[str]

    @staticmethod
    def read(root: Path, inspected: Path) -> "Image":
        """Read an image's configuration from the output of ``buildah inspect``."""
        config = json.loads(inspected.read_text())["OCIv1"]["config"]
        environment = dict(variable.split("=", 1) for variable in config["Env"])
        return Image(root, environment, config["User"], config["Cmd"])

    async def start(self, *command: str, **environment: str) -> asyncio.subprocess.Process:
        """Start a command in the image; without arguments, the image's own command."""
        enter = ("unshare", "--mount", "sh", "-c", ENTER, str(self.root), f"--userspec={self.user}", str(self.root))
        return await asyncio.create_subprocess_exec(
            *enter,
            *(command or self.command),
            env={**self.environment, **environment},
            stdout=asyncio.subprocess.PIPE,
        )

    async def run(self, *command: str, **environment: str) -> str:
        """Return a command's standard output. Exits if the command fails."""
        started = time.monotonic()
        process = await self.start(*command, **environment)
        output, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_SECONDS)
        if process.returncode != 0:
            sys.exit(f"{' '.join(command)} ended with {process.returncode}")
        print(f"  {' '.join(' '.join(command[:3]).split()[:4])}  ({time.monotonic() - started:.1f} s)")
        return output.decode()


async def main(image: Image) -> None:
    with tempfile.TemporaryDirectory(prefix="gsi-image-") as folder:
        async with local_stack(Path(folder), lambda *_: None, num_coordinators=0) as outside:
            print(f"as {image.user}, under a read-only root:")
            await check_commands(image, outside)
            await check_coordinator(image, outside)


async def check_commands(image: Image, outside: Stack) -> None:
    """Check that only /tmp is writable, that late imports work, and that the command creates a queue in Redis."""
    await image.run("python", "-c", WRITES_NOWHERE)
    await image.run("python", "-c", IMPORTS_LATE)
    await image.run("python", "-c", OPENS_A_BUCKET)
    if "submit" not in await image.run("gsi", "--help"):
        sys.exit("gsi --help does not name its commands")
    await image.run("gsi", "queue", "create", GSI_REDIS_URL=outside.redis_url)


async def check_coordinator(image: Image, outside: Stack) -> None:
    """Check that the image's own command connects, is healthy, answers a job, and exits with 0 on SIGTERM."""
    health = f"127.0.0.1:{free_port()}"
    services = {f"GSI_COORDINATOR_{role.upper()}": outside.addresses[role] for role in ROLES}
    coordinator = await image.start(
        GSI_COORDINATOR_REDIS_URL=outside.redis_url,
        GSI_COORDINATOR_HEALTH_LISTEN=health,
        GSI_COORDINATOR_LOG_LEVEL="warning",
        **services,
    )
    try:
        job = await image.run("gsi", "submit", "-p", "n=4", "-p", "seed=5", PROMPT, GSI_REDIS_URL=outside.redis_url)
        result = json.loads(
            await image.run("gsi", "result", "--json", "--wait", job.strip(), GSI_REDIS_URL=outside.redis_url)
        )
        if result["state"] != "SUCCEEDED":
            sys.exit(f"the job ended {result['state']}: {result['error']}")
        print(f"  the coordinator answered a job: {result['answer']}")
        await image.run("python", "-m", "gsi.rpc.health_check", health)
        await check_gateway(image, outside)
    finally:
        await end("the coordinator", coordinator)


async def check_gateway(image: Image, outside: Stack) -> None:
    """Check that the image's gateway answers a request with a key, as the chart's test asks it."""
    address = f"127.0.0.1:{free_port()}"
    gateway = await image.start(
        "gsi",
        "serve",
        "gateway",
        GSI_GATEWAY_LISTEN=address,
        GSI_GATEWAY_KEYS="true",
        GSI_GATEWAY_REDIS_URL=outside.redis_url,
        GSI_GATEWAY_LOG_LEVEL="warning",
    )
    try:
        ask = ("gsi", "check-gateway", f"http://{address}", PROMPT)
        print(await image.run(*ask, GSI_REDIS_URL=outside.redis_url), end="")
    finally:
        await end("the gateway", gateway)


async def end(name: str, process: asyncio.subprocess.Process) -> None:
    """Stop a process by SIGTERM. Exits if it does not end with 0."""
    if process.returncode is None:
        process.terminate()
    code = await asyncio.wait_for(process.wait(), TIMEOUT_SECONDS)
    if code != 0:
        sys.exit(f"{name} ended with {code}")


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("mounting needs root")
    asyncio.run(main(Image.read(Path(sys.argv[1]), Path(sys.argv[2]))))
