#!/usr/bin/env bash
# A table split in advance: hbase-table.sh ZOOKEEPER TABLE FAMILY [SPLIT-KEY ...]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
lib=${SERVICES_LIB:-$here/.lib}/hbase
exec java -Xmx256m --add-opens java.base/java.lang=ALL-UNNAMED --add-opens java.base/java.nio=ALL-UNNAMED \
  --add-exports java.base/jdk.internal.misc=ALL-UNNAMED -Djava.net.preferIPv4Stack=true \
  -Dlog4j.configuration="file:$here/hbase/log4j-client.properties" -cp "$lib/*" "$here/hbase/CreateTable.java" "$@"
