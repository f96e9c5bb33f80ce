#!/bin/bash
# usage: . .ci/peers.sh FOLDER   install and start the real peers of the tests on loopback, and say where they are
# Needs root for Debian's packages; each peer is stopped by `stop_peers`. A peer that cannot be had ends the run.
peers_folder=$1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mkdir -p "$peers_folder"

wait_for() { # wait_for NAME COMMAND...: until the command succeeds, 30 s at most
    local name=$1; shift
    for _ in $(seq 150); do "$@" >/dev/null 2>&1 && return 0; sleep 0.2; done
    echo "peer $name did not come up" >&2; return 1
}

install_peers() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q >"$peers_folder/apt.log" 2>&1
    apt-get install -q -y --no-install-recommends orthanc orthanc-dicomweb redis-server postgresql dicom3tools dcmtk chromium gcc libc6-dev curl $(command -v npm >/dev/null || echo nodejs npm) \
        >>"$peers_folder/apt.log" 2>&1 || { tail -5 "$peers_folder/apt.log" >&2; return 1; }
    (cd "$here/tests/peers/fhir" && npm ci --silent --no-audit --no-fund >"$peers_folder/npm.log" 2>&1) ||
        { tail -5 "$peers_folder/npm.log" >&2; return 1; }
}

start_peers() {
    export TRIAGE_TEST_CHROMIUM=/usr/bin/chromium
    # Debian starts what it installs, on the ports and data of a real server: only in CI, on a machine of its own
    [ "${CI:-}" = true ] && for service in orthanc redis-server postgresql; do service "$service" stop >/dev/null 2>&1 || true; done
    ORTHANC_URLDECODE=1 sh "$here/tests/peers/orthanc/start.sh" noauth "$peers_folder/orthanc" >/dev/null
    export TRIAGE_TEST_ORTHANC=http://127.0.0.1:18042/dicom-web TRIAGE_TEST_ORTHANC_DICOM=127.0.0.1:14242:ORTHANC

    (cd "$here/tests/peers/fhir" && exec node peer.js 18103 >"$peers_folder/fhir.log" 2>&1) & echo $! >"$peers_folder/fhir.pid"
    export TRIAGE_TEST_FHIR=http://127.0.0.1:18103/fhir/R4 NODE_PATH="$here/tests/peers/fhir/node_modules"
    python3 "$here/tests/peers/fhir/make_package.py" "$NODE_PATH" "$peers_folder/fhir-package" >"$peers_folder/package.log"
    export TRIAGE_TEST_FHIR_PACKAGE="$peers_folder/fhir-package"

    redis-server --port 16379 --bind 127.0.0.1 --save '' --daemonize yes --pidfile "$peers_folder/redis.pid" >/dev/null
    export TRIAGE_TEST_REDIS=redis://127.0.0.1:16379/0

    local bin; bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
    local data; data=$(mktemp -d /tmp/triage-peer-pg.XXXXXX); chown postgres "$data"; echo "$data" >"$peers_folder/pg.data"
    su postgres -c "$bin/initdb -D $data/db -U triage -A trust -E UTF8 --locale=C.UTF-8 --no-sync" >"$peers_folder/initdb.log"
    su postgres -c "$bin/pg_ctl -D $data/db -w -l $data/log -o '-p 15432 -k $data -c listen_addresses=127.0.0.1' start" >/dev/null
    su postgres -c "$bin/createdb -h 127.0.0.1 -p 15432 -U triage triage"
    # the journey against real peers uses it, and every test that needs a database
    export TRIAGE_TEST_POSTGRES=postgresql://triage@127.0.0.1:15432/triage TRIAGE_TEST_DATABASE_URL=postgresql://triage@127.0.0.1:15432/triage

    wait_for orthanc curl -sf "$TRIAGE_TEST_ORTHANC/studies?limit=1"
    wait_for fhir curl -sf "$TRIAGE_TEST_FHIR/metadata"
    wait_for redis redis-cli -p 16379 ping
}

stop_peers() {
    [ -f "$peers_folder/orthanc/noauth.pid" ] && kill "$(cat "$peers_folder/orthanc/noauth.pid")" 2>/dev/null
    [ -f "$peers_folder/fhir.pid" ] && kill "$(cat "$peers_folder/fhir.pid")" 2>/dev/null
    [ -f "$peers_folder/redis.pid" ] && kill "$(cat "$peers_folder/redis.pid")" 2>/dev/null
    if [ -f "$peers_folder/pg.data" ]; then
        local data; data=$(cat "$peers_folder/pg.data")
        su postgres -c "$(ls -d /usr/lib/postgresql/*/bin | tail -1)/pg_ctl -D $data/db -m fast stop" >/dev/null 2>&1
        rm -rf "$data"
    fi
    return 0
}
