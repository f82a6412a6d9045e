package workspace

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
)

// Limits of names and descriptions, in characters, as Fabric has them.
const (
	maxName        = 256
	maxDescription = 4000
)

// Canonical returns the form by which names compare: every character replaced by
// the least of those that differ from it in case only (Unicode simple folding, as
// in strings.EqualFold). It does not normalise: composed and decomposed forms of
// the same text are different names.
func Canonical(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return least
	}, name)
}

// checkName refuses what cannot stand as one segment of a path, or would be read
// as something else there.
func checkName(name string) error {
	bad := func(why string) error {
		return fault.New(fault.InvalidArgument, "The display name "+why+".")
	}
	switch {
	case name == "":
		return bad("is missing")
	case !utf8.ValidString(name):
		return bad("is not valid UTF-8")
	case utf8.RuneCountInString(name) > maxName:
		return bad("is longer than 256 characters")
	case strings.TrimSpace(name) != name:
		return bad("begins or ends with a space")
	case strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || strings.ContainsRune(`/\:*?"<>|`, r) }):
		return bad(`has a control character or one of / \ : * ? " < > |`)
	case strings.Trim(name, ".") == "":
		return bad("has nothing but dots")
	}
	return nil
}

// checkWorkspaceName also refuses what storage clients take for a container of
// another kind.
func checkWorkspaceName(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if strings.HasPrefix(name, "$") {
		return fault.New(fault.InvalidArgument, "The display name begins with a dollar sign, which is reserved.")
	}
	if IsID(name) {
		return fault.New(fault.InvalidArgument, "The display name has the form of an id.")
	}
	return nil
}

func checkDescription(s string) error {
	if !utf8.ValidString(s) || utf8.RuneCountInString(s) > maxDescription {
		return fault.New(fault.InvalidArgument, "The description is longer than 4,000 characters or not valid UTF-8.")
	}
	return nil
}

// IsID reports whether s has the form of an id: a UUID of 36 characters, in any
// case.
func IsID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case c >= '0' && c <= '9', c >= 'a' && c <= 'f', c >= 'A' && c <= 'F':
		default:
			return false
		}
	}
	return true
}

// A Segment is the part of a path that names an item: by its id, or by name and
// type. The other fields are empty.
type Segment struct {
	ID   encryption.ItemID
	Name string
	Type ItemType
}

// ParseSegment reads an item's id, or "Name.Type" where the published type follows
// the last dot, in any case. It fails with [fault.ItemNotFound], since no other
// segment can name an item.
func ParseSegment(s string) (Segment, error) { return parseSegment(s, ParseItemType) }

func parseSegment(s string, itemType func(string) (ItemType, bool)) (Segment, error) {
	if IsID(s) {
		return Segment{ID: encryption.ItemID(strings.ToLower(s))}, nil
	}
	if dot := strings.LastIndexByte(s, '.'); dot >= 0 {
		if t, ok := itemType(s[dot+1:]); ok && checkName(s[:dot]) == nil {
			return Segment{Name: s[:dot], Type: t}, nil
		}
	}
	return Segment{}, fault.New(fault.ItemNotFound, "An item is named by its id, or by its name, a dot and its type.")
}
