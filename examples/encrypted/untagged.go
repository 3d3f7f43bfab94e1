//go:build !goolm

// Encrypted shows a memory in an encrypted room, if it is built with the tag of
// package e2ee:
//
//	go run -tags goolm ./examples/encrypted
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "encrypted: this program was built without a cipher; run it with: go run -tags goolm ./examples/encrypted")
	os.Exit(2)
}
