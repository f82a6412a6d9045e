package lake

import (
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
)

// The bounds of a path, as Azure has them:
// https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata
const (
	maxPathRunes = 1024
	maxSegments  = 63 // the hierarchical namespace's, which is the narrower one
)

// A Path names a container or what lies in one. Segments are decoded; there are
// none for the container itself, and the first is the item's.
//
// In a storage account there are no managed levels: the container is the item, and
// all that lies in it is the client's.
type Path struct {
	Account   string // storage account; "" if the container is a workspace
	Container string
	Segments  []string
}

// ParsePath reads the escaped path of a URL, from the container on:
// "/container/item.type/Files/a%20b". It is the one parser for all protocols.
//
// As with Azure, an escaped slash behind the container separates segments like a
// plain one (the SDKs escape the slashes of a blob's name), and slashes at the
// end do not count. A path is decoded once. It fails with [fault.InvalidPath] on
// what has no single meaning: empty, "." and ".." segments, control characters,
// bytes that are not UTF-8, and a container that holds a slash.
func ParsePath(escaped string) (Path, error) {
	container, rest, _ := strings.Cut(strings.TrimPrefix(escaped, "/"), "/")
	name, err := url.PathUnescape(container)
	if err != nil || name == "" || strings.Contains(name, "/") {
		return Path{}, fault.New(fault.InvalidPath, "The path does not begin with the name of a container.")
	}
	if err := checkSegment(name); err != nil {
		return Path{}, err
	}
	decoded, err := url.PathUnescape(rest)
	if err != nil {
		return Path{}, fault.New(fault.InvalidPath, "The path has a malformed escape.")
	}
	segments, err := splitPath(decoded)
	if err != nil {
		return Path{}, err
	}
	return Path{Container: name, Segments: segments}, nil
}

// splitPath splits a decoded path below a container.
func splitPath(decoded string) ([]string, error) {
	decoded = strings.TrimRight(decoded, "/")
	if decoded == "" {
		return nil, nil
	}
	if utf8.RuneCountInString(decoded) > maxPathRunes {
		return nil, fault.New(fault.InvalidPath, "The path is longer than 1,024 characters.")
	}
	segments := strings.Split(decoded, "/")
	if len(segments) > maxSegments {
		return nil, fault.New(fault.InvalidPath, "The path is deeper than 63 levels.")
	}
	for _, s := range segments {
		if err := checkSegment(s); err != nil {
			return nil, err
		}
	}
	return segments, nil
}

func checkSegment(s string) error {
	switch {
	case s == "":
		return fault.New(fault.InvalidPath, "The path has an empty segment.")
	case s == "." || s == "..":
		return fault.New(fault.InvalidPath, "The path has a segment that is only dots.")
	case !utf8.ValidString(s):
		return fault.New(fault.InvalidPath, "The path is not UTF-8.")
	case strings.ContainsFunc(s, unicode.IsControl):
		return fault.New(fault.InvalidPath, "The path has a control character.")
	}
	return nil
}

// check validates a path that was made otherwise than by ParsePath.
func (p Path) check() error {
	if err := checkSegment(p.Container); err != nil && (p.Account == "" || p.Container != "") {
		return err
	}
	segments, err := splitPath(strings.Join(p.Segments, "/"))
	if err == nil && !slices.Equal(segments, p.Segments) {
		err = fault.New(fault.InvalidPath, "A segment of the path holds a slash.")
	}
	return err
}

// String returns the path below the container.
func (p Path) String() string { return strings.Join(p.Segments, "/") }

// inner returns the path below the item.
func (p Path) inner() []string {
	if p.Account != "" {
		return p.Segments
	}
	return p.Segments[1:]
}

// managedDepth is how many levels below a container belong to the item, and not
// to clients: in a workspace the item itself and its first level.
func (p Path) managedDepth() int {
	if p.Account != "" {
		return 0
	}
	return 2
}

// isRoot reports whether the path is a storage account's container itself.
func (p Path) isRoot() bool { return p.Account != "" && len(p.Segments) == 0 }

// isManaged reports whether the path is one that clients do not make or remove.
func (p Path) isManaged() bool { return len(p.Segments) <= p.managedDepth() }

// isVirtual reports whether the path leads to one of an item's folders that are
// there even if no row says so.
func (p Path) isVirtual(item Item) bool {
	return p.Account == "" && len(p.Segments) == 2 && slices.Contains(managed(item.Type), p.Segments[1])
}

// managed lists the folders that an item of the type always has.
func managed(itemType string) []string {
	if itemType == ContainerType {
		return nil
	}
	if strings.EqualFold(itemType, "Lakehouse") {
		return []string{"Files", "Tables"}
	}
	return []string{"Files"}
}

// writable fails unless clients may create, change and delete what is at the
// path: below a managed folder.
func writable(p Path, item Item) error {
	if p.isManaged() {
		return errManaged()
	}
	if p.Account == "" && !slices.Contains(managed(item.Type), p.Segments[1]) {
		return fault.New(fault.ManagedPath, "The item has no such folder, and its first level is not the client's to extend.").
			WithMend("Write below " + strings.Join(managed(item.Type), " or ") + ".")
	}
	return nil
}

func errManaged() error {
	return fault.New(fault.ManagedPath, "Workspaces, items and their first level of folders are managed; they cannot be created, changed or deleted here.")
}

// managedETag is the ETag of what has no row: taken from the id, because it never
// changes.
func managedETag[T encryption.ItemID | encryption.ScopeID](id T) string {
	hex := strings.ToUpper(strings.ReplaceAll(string(id), "-", ""))
	return `"0x` + hex[:min(16, len(hex))] + `"`
}
