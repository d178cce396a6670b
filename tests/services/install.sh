#!/bin/sh
# Servers for `make test-services`: PgBouncer, PostgreSQL, Redis, HAProxy, Prometheus with Alertmanager and Pushgateway as Debian packages them, an image registry, and a browser. Installs what is missing
# when it may; says loudly what is left out. With the word "commands", for `make test-platform`, also the programs that docs/ has a reader type.
set -eu

packages=""
command -v chromium >/dev/null 2>&1 || packages="$packages chromium"
command -v tini >/dev/null 2>&1 || packages="$packages tini"
command -v pgbouncer >/dev/null 2>&1 || [ -x /usr/sbin/pgbouncer ] || packages="$packages pgbouncer"
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || packages="$packages postgresql"
command -v docker-registry >/dev/null 2>&1 || packages="$packages docker-registry"
command -v prometheus >/dev/null 2>&1 || packages="$packages prometheus"
command -v prometheus-alertmanager >/dev/null 2>&1 || packages="$packages prometheus-alertmanager"
command -v redis-server >/dev/null 2>&1 || packages="$packages redis-server"
command -v haproxy >/dev/null 2>&1 || [ -x /usr/sbin/haproxy ] || packages="$packages haproxy"
command -v prometheus-pushgateway >/dev/null 2>&1 || packages="$packages prometheus-pushgateway"
if [ "${1:-}" = commands ]; then
    command -v aws >/dev/null 2>&1 || packages="$packages awscli"
    command -v openssl >/dev/null 2>&1 || packages="$packages openssl"
    command -v sqlite3 >/dev/null 2>&1 || packages="$packages sqlite3"
    command -v systemctl >/dev/null 2>&1 || packages="$packages systemd"
    command -v zstd >/dev/null 2>&1 || packages="$packages zstd"
fi
[ -n "$packages" ] || exit 0

left_out() {
    echo "test-services: LEFT OUT: the tests that need$packages ($1)" >&2
    exit 0
}

[ "$(id -u)" = 0 ] || left_out "not root; install by hand: apt-get install$packages"
command -v apt-get >/dev/null 2>&1 || left_out "this machine has no apt-get"

echo "test-services: installing$packages"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
policy=/usr/sbin/policy-rc.d
made_policy=""
trap 'rm -f "$log" $made_policy' EXIT
# The packages start their servers at once unless told not to: tests start their own.
if [ ! -e "$policy" ]; then
    made_policy=$policy
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
# shellcheck disable=SC2086  # words are meant
if ! { apt-get update -q && apt-get install -q -y --no-install-recommends $packages; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    left_out "apt-get failed, see above"
fi
