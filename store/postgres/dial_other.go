//go:build !linux

package postgres

import "time"

// giveUp does nothing here: the system's own patience counts.
func giveUp(int, time.Duration) error { return nil }
