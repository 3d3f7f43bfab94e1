package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/go-joe/matrix-memory/internal/rig"
)

func TestMain(m *testing.M) {
	testscript.Main(onHomeserver{m}, map[string]func(){"matrix-memory": main})
}

// onHomeserver runs the tests on a homeserver that they share.
type onHomeserver struct{ *testing.M }

func (t onHomeserver) Run() int { return rig.Run(t.M) }
