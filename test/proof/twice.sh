#!/bin/sh
# Builds the binary twice, in folders of different names and without a shared build
# cache, and compares what comes out.
set -eu
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
for n in one a-second-and-longer-name; do
	mkdir -p "$dir/$n"
	git ls-files -z | xargs -0 cp --parents -t "$dir/$n" 2>/dev/null || true
	(cd "$dir/$n" && GOCACHE="$dir/cache-$n" CGO_ENABLED=0 GOFLAGS= go build -trimpath -buildvcs=false -o "$dir/kluis-$n" ./cmd/kluis)
done
sha256sum "$dir"/kluis-*
cmp "$dir/kluis-one" "$dir/kluis-a-second-and-longer-name"
echo "proof: builds=2 bytes-that-differ=0"
