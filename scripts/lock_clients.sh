#!/bin/sh
# Write the locks in tests/clients: every package of the clients that the gateway is tested with (`make locks`).
# A locked version stays as long as it fits; ARGS=--upgrade takes the newest version of what the *.in files leave open.
set -eu
cd "$(dirname "$0")/../tests/clients"
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"${PYTHON:-python3}" -m pip install --quiet --disable-pip-version-check --target "$tools" uv==0.13.9
[ -z "${PIP_CERT:-}" ] || export SSL_CERT_FILE="$PIP_CERT"
for source in locks/*.in; do
  "$tools/bin/uv" pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-annotate \
    --custom-compile-command "make locks" --output-file "${source%.in}.txt" "$@" "$source"
done
npm install --prefix node --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund --silent
