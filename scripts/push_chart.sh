#!/bin/sh
# Push dist/gsi-VERSION.tgz as an OCI artifact, and print its digest: push_chart.sh HELM REGISTRY NAMESPACE
# Credentials are in REGISTRY_USER and REGISTRY_PASSWORD. They are kept where cosign looks for them afterwards.
set -eu
export HELM_REGISTRY_CONFIG="${DOCKER_CONFIG:-$HOME/.docker}/config.json"
helm=$1 registry=$2 namespace=$3
printf %s "$REGISTRY_PASSWORD" | "$helm" registry login --username "$REGISTRY_USER" --password-stdin "$registry" >&2
said=$("$helm" push dist/gsi-*.tgz "oci://$registry/$namespace/charts" 2>&1) || {
  echo "$said" >&2
  exit 1
}
echo "$said" | sed -n 's/^Digest: /digest=/p'
