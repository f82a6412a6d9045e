package lake

// A Path names a container or what lies in one. Segments are decoded; there are
// none for the container itself, and the first is the item's.
type Path struct {
	Container string
	Segments  []string
}

// ParsePath reads the escaped path of a URL, from the container on:
// "/container/item.type/Files/a%20b". It is the one parser for all protocols.
// It fails with [fault.InvalidPath].
func ParsePath(escaped string) (Path, error) { panic("not yet") }
