//go:build !cgo

package main

import (
	"context"
	"errors"
	"log/slog"
)

// newDevice refuses: a PKCS#11 library is called through cgo.
func newDevice(context.Context, config, *slog.Logger) (device, error) {
	return nil, errors.New("this kluis-hsm was built without cgo: build it with CGO_ENABLED=1 and a C compiler")
}
