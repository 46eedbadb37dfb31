#!/bin/sh
# Try the Dockerfile's steps without docker: install from a copy of what it copies, serve as another user with a home of
# its own, ask, and stop by SIGTERM. Needs root for the other user; prints "ok".
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd) work=$(mktemp -d) port=${PORT:-18000}
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" && mkdir -p "$work/src/docs/deploy" "$work/home"
cd "$root"
cp -r pyproject.toml constraints.txt README.md LICENSE gliclass_rerank "$work/src"
cp docs/deploy/install.sh "$work/src/docs/deploy"
(cd "$work/src" && sh docs/deploy/install.sh "$work/env" "${PYTHON:-python3}")
rm -rf "$work/src"
chown -R 10001 "$work/home"
cd "$work/home"
env -i PATH="$work/env/bin:/usr/bin:/bin" HOME="$work/home" HF_HOME="$work/home/cache" HF_HUB_OFFLINE=1 \
    GLICLASS_RERANK_SERVE_LOG_FORMAT=json setpriv --reuid 10001 --clear-groups \
    gliclass-rerank serve --port "$port" 2>"$work/log" &
server=$!
for _ in $(seq 240); do
    curl -sf "http://127.0.0.1:$port/health" >/dev/null && break
    kill -0 $server || { cat "$work/log"; exit 1; }
    sleep 0.5
done
answer=$(curl -sf "http://127.0.0.1:$port/v2/rerank" \
    -d '{"query": "reset my password", "documents": ["Open from 9 to 5.", "Click Forgot password to reset it."], "top_n": 1}')
echo "$answer"
kill -TERM $server && wait $server
case $answer in *'"index":1'*) echo ok ;; *) cat "$work/log"; exit 1 ;; esac
