#!/usr/bin/env bash
# Does what "go mod tidy" does for this module, which the go command does without go.work: it has it use
# the library beside it, of which there may be no release yet. With -diff it only says what would change.
set -euo pipefail
cd "$(dirname "$0")"
files=$(mktemp -d)
trap 'rm -rf "$files"' EXIT
cp go.mod "$files/go.mod"
touch go.sum
# A library that is replaced has no checksum, so tidy would take out those of its releases, which who installs the tool needs.
sums=$(grep '^github.com/go-joe/matrix-memory v' go.sum || true)
grep -v '^github.com/go-joe/matrix-memory v' go.sum > "$files/go.sum" || true
go mod edit -replace github.com/go-joe/matrix-memory=../.. "$files/go.mod"
GOWORK=off go mod tidy "$@" -modfile="$files/go.mod"
go mod edit -dropreplace github.com/go-joe/matrix-memory "$files/go.mod"
cp "$files/go.mod" go.mod
[[ -n $sums ]] || { cp "$files/go.sum" go.sum; exit; }
# They go where the go command has them, before the first module that is behind.
LC_ALL=C sums=$sums awk '!done && $1 > "github.com/go-joe/matrix-memory" { print ENVIRON["sums"]; done = 1 } { print } END { if (!done) print ENVIRON["sums"] }' \
	"$files/go.sum" > go.sum
