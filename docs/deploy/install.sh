#!/bin/sh
# Install the server into an environment of its own: sh docs/deploy/install.sh FOLDER [PYTHON]
set -eu
target=$1 python=${2:-python3}
"$python" -m venv "$target"
"$target/bin/pip" install --quiet --no-cache-dir --disable-pip-version-check -c constraints.txt '.[serve,onnx]'
# Bytecode once, as the image's files cannot be written by the server.
"$target/bin/python" -m compileall -q "$target/lib" || true
