//go:build !failpoints

package store

import "io/fs"

func migrationsOf(set string) (fs.FS, error) { return fs.Sub(migrations, "migrations/"+set) }
