# The image of the model services (draft, target, prm), with the shipped family at /app/models.
#   docker build --file docker/engine.Dockerfile --tag gsi-engine:0.1.0 .                      vLLM on NVIDIA GPUs
#   … --build-arg VARIANT=transformers --tag gsi-engine:0.1.0-transformers .                   CPUs
#   … --build-arg VARIANT=vllm-cpu --tag gsi-engine:0.1.0-vllm-cpu .                           vLLM on CPUs
# Every variant has transformers; GSI_<ROLE>_ENGINE chooses the engine. /cache is for a volume with downloaded models.
# slim.Dockerfile explains the base image, Python, and how to use your own package index.
ARG BASE_IMAGE=debian:12.12-slim
ARG VARIANT=vllm

FROM ${BASE_IMAGE} AS python
# Debian's current versions: see slim.Dockerfile.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/*

FROM python AS build
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3-pip \
 && rm -rf /var/lib/apt/lists/*
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_CONFIG_FILE=/run/secrets/pip.conf
ARG VARIANT
# For the CPU variants: the index of PyTorch's CPU builds, from PyTorch's installation page; empty: pip.conf's indexes.
ARG TORCH_INDEX_URL=
WORKDIR /src
COPY docker/locks/build.txt docker/locks/engine-${VARIANT}.txt docker/locks/
RUN --mount=type=secret,id=pip.conf,target=/run/secrets/pip.conf \
    --mount=type=secret,id=pip-ca.pem,target=/run/secrets/pip-ca.pem \
    python3 -m venv --without-pip /opt/build \
 && python3 -m venv --without-pip /opt/venv \
 && python3 -m pip --python /opt/build/bin/python install --no-deps --require-hashes -r docker/locks/build.txt \
 && python3 -m pip --python /opt/venv/bin/python install --no-deps --require-hashes \
      ${TORCH_INDEX_URL:+--extra-index-url "${TORCH_INDEX_URL}"} -r "docker/locks/engine-${VARIANT}.txt"
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY gsi gsi
COPY services services
RUN /opt/build/bin/hatchling build -t wheel -d dist \
 && python3 -m pip --python /opt/venv/bin/python install --no-deps --no-index dist/*.whl

# Debian packages of each variant.
FROM python AS runtime-transformers

# vLLM compiles some computations with PyTorch and Triton when it loads a model.
FROM python AS runtime-vllm
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ libnuma1 python3-dev \
 && rm -rf /var/lib/apt/lists/*

FROM runtime-vllm AS runtime-vllm-cpu

# hadolint ignore=DL3006
FROM runtime-${VARIANT}
RUN groupadd --gid 10001 gsi \
 && useradd --uid 10001 --gid gsi --no-log-init --no-create-home --home-dir /tmp --shell /usr/sbin/nologin gsi \
 && install --directory --owner 10001 --group 10001 /cache
COPY --from=build /opt/venv /opt/venv
COPY models /app/models
# The root file system may be read-only: Python writes no bytecode, and the home folder and caches are in /tmp.
# NVIDIA's container toolkit must provide CUDA, and NVML for our metrics; its default has been NVML only.
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /app
USER 10001:10001
STOPSIGNAL SIGTERM
ARG VARIANT
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="gsi-engine" \
      org.opencontainers.image.description="Draft, target and PRM service of Guided Speculative Inference, variant ${VARIANT}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
CMD ["gsi", "serve", "draft"]
