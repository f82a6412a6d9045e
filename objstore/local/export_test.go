package local

// The seam, for tests that make each call fail.
type (
	Filesystem = filesystem
	File       = file
)

// OpenOn is Open on another file system.
func OpenOn(f Filesystem, dir string) (*Store, error) { return openOn(f, dir) }

// Disk is the real file system.
var Disk Filesystem = disk{}
