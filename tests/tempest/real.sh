#!/usr/bin/env bash
# Tempest's essential scenarios against real guests: a cloud in a network namespace of its own, its host's address on br-ex.
#   FERROSTACK, TEMPEST, CLIENTS   as for run.sh          REGEX   what to run
#   GUEST      the tiny image (built when not given)      SSH     seconds until a guest must let somebody in
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
: "${FERROSTACK:?}" "${TEMPEST:?}" "${CLIENTS:?}"
REGEX=${REGEX:-'^tempest\.scenario\.test_(minimum_basic|server_basic_ops|network_basic_ops)\.'}
work=$(mktemp -d /tmp/ferrostack-tempest.XXXXXX)
chmod 755 "$work"
state=$work/state ns=fs-tempest-$$
inside() { ip netns exec "$ns" "$@"; }
trap 'inside "$FERROSTACK" down --purge --yes --state-dir "$state" > /dev/null 2>&1 || true; ip netns del "$ns" || true; rm -rf "$work"' EXIT
mkdir "$work/suites"
ln -s "$TEMPEST" "$work/suites/tempest"
ln -s "$CLIENTS" "$work/suites/clients"
[ -n "${GUEST:-}" ] || { GUEST=$work/guest.qcow2; "$FERROSTACK" image build-tiny "$GUEST" > /dev/null; }
ip netns add "$ns"
inside ip link set lo up
inside "$FERROSTACK" up --yes --state-dir "$state" --public-host 127.0.0.1 --demo-image "$GUEST" > /dev/null
set +u; . "$state/keystonerc_admin"; set -u
PS1=
export SUITES_DIR=$work/suites TEMPEST_WS=$work/ws RESULTS=${RESULTS:-$work/results}
export GUEST_IMAGE=$GUEST GUEST_DISK_FORMAT=qcow2 PUBLIC_NETWORK=public PUBLIC_PHYSNET=extnet MULTINODE=false
export SSH_TIMEOUT=${SSH:-240} BUILD_TIMEOUT=240 OS_TEST_TIMEOUT=1200
status=0
inside bash "$here/run-tempest.sh" "$REGEX" --concurrency "${JOBS:-1}" > "$work/out" || status=$?
cat "$work/out"
[ -z "${KEEP:-}" ] || cp -r "$RESULTS" "$KEEP"
exit "$status"
