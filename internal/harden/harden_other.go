//go:build !linux

package harden

import "errors"

// Dumps does nothing on this system.
func Dumps() error { return nil }

// Memory says that it cannot be done on this system.
func Memory() error { return errors.ErrUnsupported }

// Files says that it cannot be done on this system.
func Files(read, write []string) error { return errors.ErrUnsupported }
