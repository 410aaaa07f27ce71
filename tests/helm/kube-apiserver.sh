#!/bin/sh
# Builds the real kube-apiserver from its Go module: sh tests/helm/kube-apiserver.sh v1.34.2 PROGRAM. Minutes.
set -eu
version=$1 program=$2
minor=v0.${version#v1.}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
source=$(go mod download -json "k8s.io/kubernetes@$version" | sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')
printf 'module admission\n\ngo 1.24.0\n' > go.mod
printf '//go:build tools\n\npackage tools\n\nimport _ "k8s.io/kubernetes/cmd/kube-apiserver"\n' > tools.go
# Kubernetes' own go.mod takes its parts from folders beside it; as a module they are found by their versions.
for part in $(grep -oE 'k8s.io/[a-z-]+ v0.0.0$' "$source/go.mod" | cut -d' ' -f1 | sort -u); do
    go mod edit -replace "$part=$part@$minor"
done
go mod edit -require "k8s.io/kubernetes@$version"
go mod tidy -e > /dev/null 2>&1 || true
go build -mod=mod -buildvcs=false -o "$program.new" \
    -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$version" k8s.io/kubernetes/cmd/kube-apiserver
mv "$program.new" "$program"
