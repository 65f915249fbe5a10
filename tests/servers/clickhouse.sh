#!/usr/bin/env bash
# The ClickHouse engine (chDB, which carries it as a Python package) behind the HTTP interface: clickhouse.sh DATA_DIR PORT
# Installs on first use the packages chdb-core (566 MB), lz4 and clickhouse-cityhash into a venv of its own below SERVICES_LIB.
. "$(dirname "$0")/common.sh"
venv=${SERVICES_LIB:-$here/.lib}/clickhouse
[ -x "$venv/bin/python" ] || {
  rm -rf "$venv.part"
  python3 -m venv "$venv.part"
  "$venv.part/bin/pip" -q install --disable-pip-version-check --no-deps chdb-core==26.9.0 lz4==4.4.5 clickhouse-cityhash==1.0.2.6
  mv "$venv.part" "$venv"
} >&2
launch clickhouse "$venv/bin/python" "$here/clickhouse/server.py" "$data/store" "$port"
ready clickhouse 60 curl -sf "127.0.0.1:$port/?query=SELECT+1"
echo "ready clickhouse http://127.0.0.1:$port"
