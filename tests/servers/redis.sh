#!/usr/bin/env bash
# Redis (Debian redis-server, which scripts/install.sh installs): redis.sh DATA_DIR PORT [OPTION…]
# Every write is in the append-only file before it is answered.
. "$(dirname "$0")/common.sh"
launch redis redis-server --bind 127.0.0.1 --port "$port" --dir "$data" --appendonly yes --appendfsync always --save '' "${@:3}"
ready redis 10 logged redis 'Ready to accept connections'
echo "ready redis 127.0.0.1:$port"
