//go:build goolm

package main

import (
	"github.com/go-joe/matrix-memory/e2ee"
)

// encryption is what a memory needs to encrypt and decrypt; nil: the tool is built without.
var encryption = e2ee.Enable
