//go:build !goolm

package main

import matrix "github.com/go-joe/matrix-memory"

// encryption is what a memory needs to encrypt and decrypt; nil: the tool is built without.
var encryption func() matrix.Option
