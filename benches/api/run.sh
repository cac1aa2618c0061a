#!/usr/bin/env bash
# The API benchmark against a simulated cloud in release mode with durable commits, beside what the real OpenStack 2026.2 measured with
# the same program on a machine of the same size (openstack-2026.json). Prints the comparison; RESULT keeps the figures.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$(dirname "$here")")
FERROSTACK=${FERROSTACK:-$root/target/release/ferrostack}
[ -x "$FERROSTACK" ] || cargo build --release --package ferrostack --manifest-path "$root/Cargo.toml"
work=$(mktemp -d /tmp/ferrostack-bench.XXXXXX)
trap '"$FERROSTACK" down --purge --yes --state-dir "$work/state" > /dev/null 2>&1 || true; rm -rf "$work"' EXIT
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
begun=$(date +%s%N)
"$FERROSTACK" up --simulate --yes --no-demo --state-dir "$work/state" --listen 127.0.0.1 --api-port "$port" > /dev/null
echo "up to the first answer of every service: $(( ($(date +%s%N) - begun) / 1000000 )) ms"
set +u; . "$work/state/keystonerc_admin"; set -u
pid=$("$FERROSTACK" status --json --state-dir "$work/state" | python3 -c 'import json, sys; print(json.load(sys.stdin)["processes"][0]["pid"])')
echo "$pid" > "$work/pid"
export CLIENTS=${CLIENTS:-$root/target/venvs/clients}
image=$work/image.raw
truncate -s 1M "$image"
"$CLIENTS/bin/openstack" image create --disk-format raw --container-format bare --public --file "$image" tiny > /dev/null
python3 "$here/measure.py" --pids "$work/pid" --label "ferrostack, simulated" --out "${RESULT:-$work/result.json}" "$@"
grep VmRSS "/proc/$pid/status"
python3 "$here/compare.py" "$here/openstack-2026.json" "${RESULT:-$work/result.json}"
