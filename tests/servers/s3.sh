#!/usr/bin/env bash
# versitygw, an S3 server over a folder, built once through the Go proxy: s3.sh DATA_DIR PORT   keys millrace / wonderland, bucket `jobs`
. "$(dirname "$0")/common.sh"
bin=${SERVICES_LIB:-$here/.lib}/s3
[ -x "$bin/versitygw" ] || GOBIN=$bin GOFLAGS=-p=2 go install -ldflags='-s -w' github.com/versity/versitygw/cmd/versitygw@v1.8.0 >&2
mkdir -p "$data/store"
launch s3 env ROOT_ACCESS_KEY=millrace ROOT_SECRET_KEY=wonderland HOME="$data" \
  "$bin/versitygw" --quiet --port "127.0.0.1:$port" posix "$data/store"
ready s3 30 listening "$port"
[ -d "$data/store/jobs" ] ||
  curl -sf --aws-sigv4 aws:amz:us-east-1:s3 --user millrace:wonderland -H "x-amz-content-sha256: $(sha256sum </dev/null | cut -c1-64)" \
    -X PUT "127.0.0.1:$port/jobs"
echo "ready s3 http://127.0.0.1:$port"
