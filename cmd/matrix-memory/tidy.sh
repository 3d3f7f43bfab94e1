#!/usr/bin/env bash
# Does what "go mod tidy" does for this module, which the go command does without go.work: it has it use
# the library beside it, of which there may be no release yet. With -diff it only says what would change.
set -euo pipefail
cd "$(dirname "$0")"
files=$(mktemp -d)
trap 'rm -rf "$files"' EXIT
cp go.mod "$files/go.mod"
[[ ! -f go.sum ]] || cp go.sum "$files/go.sum"
go mod edit -replace github.com/go-joe/matrix-memory=../.. "$files/go.mod"
GOWORK=off go mod tidy "$@" -modfile="$files/go.mod"
go mod edit -dropreplace github.com/go-joe/matrix-memory "$files/go.mod"
cp "$files/go.mod" go.mod
cp "$files/go.sum" go.sum
