#!/usr/bin/env bash
# Installs what a fresh Debian machine lacks: scripts/install.sh build | test
#   build  compiler and libraries for the executable (apt)
#   test   the same, the test runner's Python packages, Redis (apt), Kafka's and HBase's jars, an S3 server, ClickHouse's engine (pip,
#          Maven, Go; the last is 566 MB), Chromium (apt)
# Says what it does; does nothing that is done already.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${MILLRACE_CACHE:-$HOME/.cache/millrace}
mkdir -p "$cache"

apt_install() {
  local missing=()
  for p in "$@"; do dpkg -s "$p" >/dev/null 2>&1 || missing+=("$p"); done
  [ ${#missing[@]} = 0 ] && return
  echo "install: apt packages ${missing[*]}"
  local sudo=
  [ "$(id -u)" = 0 ] || sudo=sudo
  $sudo apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$cache/apt.log" 2>&1 ||
    { tail -n 30 "$cache/apt.log" >&2; exit 1; }
}

# librdkafka: gcc, make, OpenSSL, zlib; RocksDB: g++, libclang for its bindings
apt_install gcc g++ make pkg-config perl libssl-dev zlib1g-dev libclang-dev
[ "${1:-build}" = test ] || exit 0

apt_install procps curl python3-venv redis-server chromium chromium-driver fonts-noto-cjk
venv=$cache/venv
stamp=$(sha256sum tests/e2e/requirements.txt | cut -c1-16)
if [ ! -f "$venv/.$stamp" ]; then
  echo "install: Python packages of tests/e2e/requirements.txt into $venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q --disable-pip-version-check -r tests/e2e/requirements.txt
  touch "$venv/.$stamp"
fi
export SERVICES_LIB=${SERVICES_LIB:-$cache/services}
mkdir -p "$SERVICES_LIB"
for name in kafka hbase s3 clickhouse smtp; do
  [ -f "$SERVICES_LIB/$name.ready" ] && continue
  echo "install: the server $name into $SERVICES_LIB, and one start of it"
  tests/servers/prepare.sh "$name" >"$cache/prepare-$name.log" 2>&1 || { tail -n 30 "$cache/prepare-$name.log" >&2; exit 1; }
  touch "$SERVICES_LIB/$name.ready"
done
