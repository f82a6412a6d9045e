//go:build !failpoints

package failpoint

// Enabled says whether this build has its failpoints.
const Enabled = false

// A Point is one named place. It is empty in this build.
type Point struct{}

// New declares a point.
func New(string) Point { return Point{} }

// Hit passes the point.
func (Point) Hit() error { return nil }

// Names lists the declared points; none in this build.
func Names() []string { return nil }
