#!/bin/sh
# Build docker/slim.Dockerfile without Docker and without a registry, measure the image, and run it (`make image`).
# debootstrap makes the base (Debian 12 without documentation, like debian:12-slim), buildah makes the image, and
# run_slim_image.py runs the image's processes under a read-only root file system, without root.
# Needs root on Debian 12 and: apt-get install buildah debootstrap. Everything is in a folder that is deleted at the end.
# pip in the build uses the settings PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_TRUSTED_HOST, PIP_CERT and
# PIP_DEFAULT_TIMEOUT of this shell, passed as a secret of the build.
set -eu
cd "$(dirname "$0")/.."
limit_bytes=200000000
python=${PYTHON:-.venv/bin/python}

[ "$(id -u)" = 0 ] || { echo "buildah's chroot isolation and debootstrap need root" >&2; exit 1; }
for program in buildah debootstrap; do
  command -v $program >/dev/null || { echo "$program is missing: apt-get install buildah debootstrap" >&2; exit 1; }
done

work=$(mktemp -d)
store() { # buildah with its images and containers in our folder
  buildah --root "$work/images" --runroot "$work/run" --storage-driver vfs "$@"
}
clean_up() {
  store umount --all >/dev/null 2>&1 || true
  rm -rf --one-file-system "$work"
}
trap clean_up EXIT
trap 'exit 1' INT TERM

echo "base: debootstrap (log: $work/base.log)"
debootstrap --variant=minbase bookworm "$work/base" >"$work/base.log" 2>&1 || { tail "$work/base.log" >&2; exit 1; }
(
  cd "$work/base"
  for folder in doc info lintian locale man; do
    rm -rf "usr/share/$folder"
    echo "path-exclude=/usr/share/$folder/*" >>etc/dpkg/dpkg.cfg.d/slim
  done
  rm -rf var/cache/apt/* var/lib/apt/lists/* var/log/*
  mirror=$(sed -n 's/^deb \([^ ]*\) bookworm main.*/\1/p' etc/apt/sources.list)
  echo "deb $mirror bookworm-updates main" >>etc/apt/sources.list
  echo "deb $mirror-security bookworm-security main" >>etc/apt/sources.list
)
container=$(store from scratch)
store copy --quiet "$container" "$work/base" / >/dev/null
store commit --quiet "$container" gsi-base >/dev/null
store rm "$container" >/dev/null

echo "image: buildah (log: $work/build.log)"
{
  echo "[global]"
  for name in INDEX_URL EXTRA_INDEX_URL TRUSTED_HOST DEFAULT_TIMEOUT; do
    value=$(printenv "PIP_$name" || true)
    [ -z "$value" ] || echo "$(echo $name | tr 'A-Z_' 'a-z-') = $value"
  done
  [ -z "${PIP_CERT:-}" ] || echo "cert = /run/secrets/pip-ca.pem"
} >"$work/pip.conf"
set -- --secret "id=pip.conf,src=$work/pip.conf"
[ -z "${PIP_CERT:-}" ] || set -- "$@" --secret "id=pip-ca.pem,src=$PIP_CERT"
store bud --isolation chroot --pull-never --build-arg BASE_IMAGE=localhost/gsi-base "$@" \
  --file docker/slim.Dockerfile --tag gsi-slim . >"$work/build.log" 2>&1 || { tail -40 "$work/build.log" >&2; exit 1; }

store push --quiet gsi-slim "oci:$work/oci:slim" >/dev/null
compressed=0
uncompressed=0
for layer in $(find "$work/oci/blobs" -type f -size +100k); do
  compressed=$((compressed + $(stat --format %s "$layer")))
  uncompressed=$((uncompressed + $(gzip --decompress --stdout "$layer" | wc -c)))
done
echo "gsi-slim: $((uncompressed / 1000000)) MB, $((compressed / 1000000)) MB compressed"
[ "$uncompressed" -lt "$limit_bytes" ] || { echo "the image is larger than $((limit_bytes / 1000000)) MB" >&2; exit 1; }

store inspect --type image gsi-slim >"$work/image.json"
container=$(store from --pull-never gsi-slim)
"$python" scripts/run_slim_image.py "$(store mount "$container")" "$work/image.json"
