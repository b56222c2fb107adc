# The image of the coordinator, the gateway, the exporter, the command `gsi` and the chart's hook Jobs: no torch, under 200 MB.
#   docker build --file docker/slim.Dockerfile --tag gsi-slim:0.1.0 .
# BASE_IMAGE is Debian 12 without Python: our images install Debian's Python, which gets Debian's security fixes. For
# reproducible builds, name it by its digest (debian:12.12-slim@sha256:…).
# Your own package index: --secret id=pip.conf,src=…, and id=pip-ca.pem,src=… for its authority. The image keeps neither.
ARG BASE_IMAGE=debian:12.12-slim

FROM ${BASE_IMAGE} AS python
# Debian's archive keeps only the newest build of a package in a stable release, so a version pinned here would fail to build
# after the next security fix. Only the base image and its release can be pinned.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates libstdc++6 netbase python3 tzdata \
 && rm -rf /var/lib/apt/lists/*

FROM python AS build
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3-pip \
 && rm -rf /var/lib/apt/lists/*
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_CONFIG_FILE=/run/secrets/pip.conf
WORKDIR /src
COPY docker/locks/build.txt docker/locks/slim.txt docker/locks/
RUN --mount=type=secret,id=pip.conf,target=/run/secrets/pip.conf \
    --mount=type=secret,id=pip-ca.pem,target=/run/secrets/pip-ca.pem \
    python3 -m venv --without-pip /opt/build \
 && python3 -m venv --without-pip /opt/venv \
 && python3 -m pip --python /opt/build/bin/python install --no-deps --require-hashes -r docker/locks/build.txt \
 && python3 -m pip --python /opt/venv/bin/python install --no-deps --require-hashes --no-compile -r docker/locks/slim.txt
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY gsi gsi
COPY services services
RUN /opt/build/bin/hatchling build -t wheel -d dist \
 && python3 -m pip --python /opt/venv/bin/python install --no-deps --no-index --no-compile dist/*.whl

# The image consists of the files of Python and of the packages that Python needs, our environment, and one user. It has no
# shell, no package manager and no perl: nothing is installed at run time, and absent programs need no security fixes.
# dpkg's list of packages stays for scanners.
FROM python AS contents
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# (/lib and similar folders are links into /usr. Their targets must exist before files are unpacked through the links.)
# hadolint ignore=SC2086
RUN packages=$(apt-cache depends --recurse --installed --no-recommends --no-suggests --no-enhances --no-conflicts \
      --no-breaks --no-replaces base-files ca-certificates libstdc++6 netbase python3 tzdata \
      | grep '^[a-z]' | grep --line-regexp --invert-match -e debconf -e dpkg -e tar | sort --unique) \
 && mkdir --parents /image/usr/lib /image/usr/lib64 /image/usr/bin /image/usr/sbin /image/var/lib/dpkg /image/etc \
 && dpkg-query --listfiles ${packages} | sort --unique \
  | grep --invert-match --extended-regexp '^/usr/share/(doc|info|lintian|locale|man)(/|$)' \
  | tar --create --no-recursion --files-from - \
  | tar --extract --directory /image \
 && dpkg-query --status ${packages} >/image/var/lib/dpkg/status \
 && cp --archive /etc/ssl /image/etc/ \
 && cp /etc/nsswitch.conf /image/etc/ \
 && printf '%s\n' 'root:x:0:0:root:/root:/usr/sbin/nologin' 'gsi:x:10001:10001::/tmp:/usr/sbin/nologin' >/image/etc/passwd \
 && printf '%s\n' 'root:x:0:' 'gsi:x:10001:' >/image/etc/group
COPY --from=build /opt/venv /image/opt/venv
# Remove sympy's and mpmath's own tests (12 MB), the descriptions of services of AWS other than S3 and those that give
# credentials for it (20 MB), and the bytecode of modules that our processes do not import (40 MB).
RUN find /image/opt/venv/lib/python3*/site-packages/sympy /image/opt/venv/lib/python3*/site-packages/mpmath \
      -type d -name tests -prune -exec rm -r {} + \
 && find /image/opt/venv/lib/python3*/site-packages/botocore/data -mindepth 1 -maxdepth 1 -type d \
      ! -name s3 ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -r {} + \
 && find /image/usr/lib/python3* -type d -name __pycache__ -prune -exec rm -r {} + \
 && chroot /image /opt/venv/bin/python -c "import aiobotocore.session, s3fs, gsi.cli.main, gsi.cli.serve, gsi.grading.mathematics, opentelemetry.exporter.otlp.proto.grpc.trace_exporter, opentelemetry.sdk.trace.export, gsi.services.coordinator.worker, gsi.services.exporter.__main__, gsi.services.gateway.__main__"

# A volume that is mounted at /files, of the gateway's batches, gets the owner of this folder.
RUN mkdir /files

FROM scratch
COPY --from=contents /image /
COPY --from=contents --chown=10001:10001 /files /files
# The root file system may be read-only: Python writes no bytecode, and the home folder is /tmp.
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
USER 10001:10001
STOPSIGNAL SIGTERM
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="gsi-slim" \
      org.opencontainers.image.description="Coordinator, gateway, exporter and command line of Guided Speculative Inference" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
CMD ["gsi", "serve", "coordinator"]
