#!/usr/bin/env bash
# Readies a running cloud for tempest and writes the workspace's etc/tempest.conf.
# Idempotent: what is already there by name is used as it is. Admin credentials come from
# the usual OS_* variables (OS_AUTH_URL, OS_USERNAME, OS_PASSWORD, OS_PROJECT_NAME, ...).
#
#   GUEST_IMAGE        cirros-like disk image (required; see ../README.md)
#   GUEST_DISK_FORMAT  qcow2          GUEST_USER cirros     GUEST_PASSWORD gocubsgo
#   ADVANCED_IMAGE     a fuller image (bash, tcpdump, ncat, python3), and ADVANCED_USER; optional
#   PUBLIC_NETWORK     public         PUBLIC_PHYSNET public   PUBLIC_CIDR 172.24.4.0/24
#   PUBLIC_GATEWAY     172.24.4.1     PUBLIC_POOL 172.24.4.10,172.24.4.250
#   HTTP_IMAGE_BASE    URL under which the run serves guest images to the Image service
#                      (http://$PUBLIC_GATEWAY; run-tempest.sh starts the server there)
#   RUN_VALIDATION     true: ssh into guests.   MULTINODE, ENCRYPTED_VOLUMES, HAVE_BARBICAN,
#                      HAVE_SWIFT, HAVE_CINDER, HAVE_OCTAVIA, FEDERATION, SPICE, SERIAL_CONSOLE, MULTI_BACKEND: false
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export SUITES_DIR=${SUITES_DIR:-/tmp/suites}
WS=${TEMPEST_WS:-$SUITES_DIR/tempest-ws}
: "${OS_AUTH_URL:?set the OS_* variables of the cloud administrator}" "${OS_USERNAME:?}" "${OS_PASSWORD:?}"
export OS_IDENTITY_API_VERSION=3 OS_PROJECT_NAME=${OS_PROJECT_NAME:-admin}
export OS_USER_DOMAIN_NAME=${OS_USER_DOMAIN_NAME:-Default} OS_PROJECT_DOMAIN_NAME=${OS_PROJECT_DOMAIN_NAME:-Default}
export OS_REGION_NAME=${OS_REGION_NAME:-RegionOne}
oc() { timeout "${OC_TIMEOUT:-120}" "$SUITES_DIR/clients/bin/openstack" "$@"; }

# an existing object's id by name, or nothing
id_of() { oc "$@" -f value -c id 2>/dev/null || true; }
need() { # VAR KIND NAME CREATE...
  local var=$1 got; shift
  got=$(id_of $1 show "$2")
  [ -n "$got" ] || got=$(oc "${@:3}" -f value -c id)
  printf -v "$var" %s "$got"
}

GUEST_DISK_FORMAT=${GUEST_DISK_FORMAT:-qcow2}
if [ -n "${ONLY_CONFIG:-}" ]; then # write the configuration, touch no cloud (to list or dry-run)
  IMAGE_REF=00000000-0000-0000-0000-000000000001 IMAGE_REF_ALT=00000000-0000-0000-0000-000000000002
  FLAVOR_REF=42 FLAVOR_REF_ALT=84 PUBLIC_NETWORK_ID=00000000-0000-0000-0000-000000000003
  GUEST_IMAGE=${GUEST_IMAGE:-/nonexistent} ADV=${ADVANCED_IMAGE:+00000000-0000-0000-0000-000000000004} ADVF=84
else
  : "${GUEST_IMAGE:?the path of a cirros-like guest image}"
  for r in member reader manager creator load-balancer_observer load-balancer_global_observer \
           load-balancer_member load-balancer_quota_admin load-balancer_admin; do
    need _ role $r role create $r
  done
  for n in "" -alt; do
    need "R$([ -z "$n" ] || echo 2)" image tempest-guest$n image create --public --container-format bare \
      --disk-format "$GUEST_DISK_FORMAT" --file "$GUEST_IMAGE" tempest-guest$n
  done
  IMAGE_REF=$R IMAGE_REF_ALT=$R2
  need FLAVOR_REF flavor m1.nano flavor create --id 42 --ram "${NANO_RAM:-192}" --disk 1 --vcpus 1 m1.nano
  need FLAVOR_REF_ALT flavor m1.micro flavor create --id 84 --ram "${MICRO_RAM:-256}" --disk 1 --vcpus 1 m1.micro
  ADV=; ADVF=$FLAVOR_REF_ALT
  if [ -n "${ADVANCED_IMAGE:-}" ]; then
    need ADV image tempest-guest-advanced image create --public --container-format bare --disk-format qcow2 \
      --file "$ADVANCED_IMAGE" tempest-guest-advanced
    need ADVF flavor ntp_image flavor create --ram "${ADVANCED_RAM:-512}" --disk 3 --vcpus 1 ntp_image
  fi
  pub=${PUBLIC_NETWORK:-public}
  PUBLIC_NETWORK_ID=$(id_of network show "$pub")
  if [ -z "$PUBLIC_NETWORK_ID" ]; then
    PUBLIC_NETWORK_ID=$(oc network create --external --default --provider-network-type flat \
      --provider-physical-network "${PUBLIC_PHYSNET:-public}" "$pub" -f value -c id)
    pool=${PUBLIC_POOL:-172.24.4.10,172.24.4.250}
    oc subnet create --network "$pub" --no-dhcp --subnet-range "${PUBLIC_CIDR:-172.24.4.0/24}" \
      --gateway "${PUBLIC_GATEWAY:-172.24.4.1}" --allocation-pool start=${pool%,*},end=${pool#*,} "$pub-subnet" >/dev/null
  fi
  if [ "${HAVE_CINDER:-false}" = true ]; then
    oc volume type show multiattach >/dev/null 2>&1 ||
      oc volume type create --property multiattach='<is> True' multiattach >/dev/null
  fi
fi

mkdir -p "$WS/etc" "$WS/logs" "$WS/tempest_lock" "$WS/http"
site=$("$SUITES_DIR/tempest/bin/python" -c 'import os,tempest;print(os.path.dirname(tempest.__file__))')
cat > "$WS/.stestr.conf" <<C
[DEFAULT]
test_path=$site/test_discover
top_dir=$site
group_regex=([^\.]*\.)*
C
for f in tempest-guest.img tempest-guest.qcow2; do ln -sf "$(readlink -f "$GUEST_IMAGE")" "$WS/http/$f"; done
http=${HTTP_IMAGE_BASE:-http://${PUBLIC_GATEWAY:-172.24.4.1}}
adv=
[ -z "$ADV" ] || adv="advanced_image_ref = $ADV
advanced_image_flavor_ref = $ADVF
advanced_image_ssh_user = ${ADVANCED_USER:-${GUEST_USER:-cirros}}"
export WS IMAGE_REF IMAGE_REF_ALT FLAVOR_REF FLAVOR_REF_ALT PUBLIC_NETWORK_ID GUEST_IMAGE GUEST_DISK_FORMAT
export ADMIN_USERNAME=$OS_USERNAME ADMIN_PASSWORD=$OS_PASSWORD ADMIN_PROJECT=$OS_PROJECT_NAME
export ADMIN_DOMAIN=$OS_USER_DOMAIN_NAME ADMIN_PROJECT_DOMAIN=$OS_PROJECT_DOMAIN_NAME
export AUTH_URL=$OS_AUTH_URL REGION=$OS_REGION_NAME CACERT=${OS_CACERT:-} INSECURE=${OS_INSECURE:-false}
export PUBLIC_NETWORK_NAME=${PUBLIC_NETWORK:-public} BUILD_TIMEOUT=${BUILD_TIMEOUT:-300} SSH_TIMEOUT=${SSH_TIMEOUT:-300}
export HTTP_IMAGE=$http/tempest-guest.img HTTP_QCOW2_IMAGE=$http/tempest-guest.qcow2
export HAVE_SWIFT=${HAVE_SWIFT:-false} HAVE_BARBICAN=${HAVE_BARBICAN:-false} HAVE_DASHBOARD=${HAVE_DASHBOARD:-false}
export DASHBOARD_URL=${DASHBOARD_URL:-http://127.0.0.1/} FEDERATION=${FEDERATION:-false}
export IMAGE_CONVERSION=${IMAGE_CONVERSION:-true} IMAGE_LOCATIONS=${IMAGE_LOCATIONS:-true}
export COMPUTE_NODES=${COMPUTE_NODES:-1} MULTINODE=${MULTINODE:-false} SPICE=${SPICE:-false}
export SERIAL_CONSOLE=${SERIAL_CONSOLE:-false} ENCRYPTED_VOLUMES=${ENCRYPTED_VOLUMES:-false}
export HAVE_CINDER=${HAVE_CINDER:-false} HAVE_OCTAVIA=${HAVE_OCTAVIA:-false}
export PROVIDER_VLANS=${PROVIDER_VLANS:-${PUBLIC_PHYSNET:-public}} RUN_VALIDATION=${RUN_VALIDATION:-true}
export DEFAULT_IMAGE_IS_ADVANCED=${DEFAULT_IMAGE_IS_ADVANCED:-false} ADVANCED_IMAGE_LINES=$adv
export QOS_PLACEMENT_LINE=${QOS_PHYSNET:+qos_placement_physnet = $QOS_PHYSNET}
export GUEST_USER=${GUEST_USER:-cirros} GUEST_PASSWORD=${GUEST_PASSWORD:-gocubsgo}
export VOLUME_VENDOR=${VOLUME_VENDOR:-Open Source} VOLUME_PROTOCOL=${VOLUME_PROTOCOL:-iSCSI}
export VOLUME_BACKENDS=${VOLUME_BACKENDS:-lvmdriver-1} MULTI_BACKEND=${MULTI_BACKEND:-false} MULTIATTACH_TYPE=multiattach
export LB_PROVIDER=${LB_PROVIDER:-octavia} LB_TEST_SERVER=${LB_TEST_SERVER:-$SUITES_DIR/test_server.bin}
export LB_PROVIDERS=${LB_PROVIDERS:-'amphora:The Octavia Amphora driver.,octavia:Deprecated alias of the Octavia Amphora driver.'}
NETWORK_API_EXTENSIONS=$(grep -v '^#' "$here/network-extensions.txt" | paste -sd,) ; export NETWORK_API_EXTENSIONS
python3 - "$here/tempest.conf.in" "$WS/etc/tempest.conf" <<'P'
import os, re, sys
def val(m):
    v = os.environ[m.group(1)]
    return v.replace('$', '$$') if m.group(1) in ('ADMIN_PASSWORD', 'GUEST_PASSWORD') else v
with open(sys.argv[1]) as f: text = f.read().split('\n', 1)[1]
with open(os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 'w') as f:
    f.write(re.sub(r'@([A-Z0-9_]+)@', val, text))
P
echo "workspace ready: $WS"
