package lake

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/kluis-io/kluis/fault"
)

// Access control lists are POSIX's, as ADLS Gen2 has them
// (https://learn.microsoft.com/azure/storage/blobs/data-lake-storage-access-control).
// A storage account keeps them for its clients, with owner and group, and gives them
// back. What a caller may do follows from roles alone, which in Azure come first too:
// an access control list gives nothing here that roles do not.

// A Mode is what the list of a file or folder gives to its owner, its group and all
// others, nine bits as in POSIX, with what chmod adds.
type Mode uint16

// The bits beside the nine.
const (
	Sticky   Mode = 0o1000
	Extended Mode = 0o2000 // there is a list beyond the mode
	modeSet  Mode = 0o4000 // it was said, and is not the default
)

// The modes of what is made without saying: what Azure's default umask, 027, leaves.
const (
	defaultFile   Mode = 0o640
	defaultFolder Mode = 0o750
	defaultUmask  Mode = 0o027
)

// of returns the mode, or the default of the kind.
func (m Mode) of(k Kind) Mode {
	switch {
	case m&modeSet != 0:
		return m &^ modeSet
	case k == File:
		return defaultFile
	}
	return defaultFolder
}

// String returns the mode as ls does: "rwxr-x--t+".
func (m Mode) String() string {
	b := []byte(permissions(m>>6) + permissions(m>>3) + permissions(m))
	if m&Sticky != 0 {
		if b[8] == 'x' {
			b[8] = 't'
		} else {
			b[8] = 'T'
		}
	}
	if m&Extended != 0 {
		b = append(b, '+')
	}
	return string(b)
}

func permissions(m Mode) string {
	b := []byte("---")
	for i, c := range []byte("rwx") {
		if m&(4>>i) != 0 {
			b[i] = c
		}
	}
	return string(b)
}

func errMode() error {
	return fault.New(fault.InvalidArgument, "Permissions are octal, 0750, or symbolic, rwxr-x---.")
}

// ParseMode reads permissions in octal or as ls writes them.
func ParseMode(s string) (Mode, error) {
	if n, err := strconv.ParseUint(s, 8, 16); err == nil && len(s) >= 3 && len(s) <= 4 && n <= 0o1777 {
		return Mode(n), nil
	}
	s = strings.TrimSuffix(s, "+")
	if len(s) != 9 {
		return 0, errMode()
	}
	var m Mode
	for i := range 3 {
		part := []byte(s[3*i : 3*i+3])
		if i == 2 && (part[2] == 't' || part[2] == 'T') {
			m |= Sticky
			if part[2] = '-'; s[8] == 't' {
				part[2] = 'x'
			}
		}
		p, ok := parsePermissions(string(part))
		if !ok {
			return 0, errMode()
		}
		m |= p << (6 - 3*i)
	}
	return m, nil
}

func parsePermissions(s string) (Mode, bool) {
	if len(s) != 3 {
		return 0, false
	}
	var m Mode
	for i, c := range []byte("rwx") {
		switch s[i] {
		case c:
			m |= 4 >> i
		case '-':
		default:
			return 0, false
		}
	}
	return m, true
}

// An ACLKind is whom an entry of a list is about.
type ACLKind byte

// The kinds, in the order of a list.
const (
	ACLUser ACLKind = iota // the owner, or the user named
	ACLGroup
	ACLMask
	ACLOther
)

var aclKinds = []string{"user", "group", "mask", "other"}

// An ACLEntry is one entry of a list.
type ACLEntry struct {
	Default bool // of what is made in the folder
	Kind    ACLKind
	ID      string // object id, for a user or group other than the owning ones
	May     Mode   // the three low bits
}

func (e ACLEntry) same(o ACLEntry) bool { return e.key() == o.key() }

// key is the entry without what it gives.
func (e ACLEntry) key() ACLEntry {
	e.May = 0
	e.ID = strings.ToLower(e.ID)
	return e
}

// An ACL is an access control list, in the order in which lists are written.
type ACL []ACLEntry

// maxACL is the most entries of either part of a list (Azure's 32).
const maxACL = 32

// ParseACL reads a list: "user::rwx,group::r-x,default:user:id:rwx". If bare, entries
// have no permissions, as those to be removed.
func ParseACL(s string, bare bool) (ACL, error) {
	invalid := func() (ACL, error) {
		return nil, fault.New(fault.InvalidArgument, "The access control list is not one: its entries are [default:]user|group|mask|other:[id]:rwx.")
	}
	var l ACL
	for text := range strings.SplitSeq(s, ",") {
		var e ACLEntry
		text, e.Default = strings.CutPrefix(strings.TrimSpace(text), "default:")
		parts := strings.Split(text, ":")
		if bare && len(parts) < 3 {
			parts = append(parts, make([]string, 3-len(parts))...)
			parts[2] = "---"
		}
		if len(parts) != 3 {
			return invalid()
		}
		kind := slices.Index(aclKinds, parts[0])
		if kind < 0 {
			return invalid()
		}
		var ok bool
		if e.May, ok = parsePermissions(parts[2]); !ok && !(bare && parts[2] == "") {
			return invalid()
		}
		e.Kind, e.ID = ACLKind(kind), parts[1]
		if e.ID != "" && e.Kind > ACLGroup || len(e.ID) > 128 || strings.ContainsFunc(e.ID, func(r rune) bool { return r <= 0x20 || r > 0x7e }) {
			return invalid()
		}
		if slices.ContainsFunc(l, e.same) {
			return nil, fault.New(fault.InvalidArgument, "The access control list has an entry twice.")
		}
		l = append(l, e)
		if len(l) > 2*maxACL {
			return nil, fault.New(fault.InvalidArgument, "An access control list has at most 32 entries, and as many default ones.")
		}
	}
	l.sort()
	return l, nil
}

func (l ACL) sort() {
	slices.SortFunc(l, func(a, b ACLEntry) int {
		if a.Default != b.Default {
			return map[bool]int{false: -1, true: 1}[a.Default]
		}
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID))
	})
}

func (l ACL) String() string {
	var b strings.Builder
	for i, e := range l {
		if i > 0 {
			b.WriteByte(',')
		}
		if e.Default {
			b.WriteString("default:")
		}
		b.WriteString(aclKinds[e.Kind] + ":" + e.ID + ":" + permissions(e.May))
	}
	return b.String()
}

// acl returns the list that a mode alone stands for.
func (m Mode) acl() ACL {
	return ACL{{Kind: ACLUser, May: m >> 6 & 7}, {Kind: ACLGroup, May: m >> 3 & 7}, {Kind: ACLOther, May: m & 7}}
}

// entry returns what the list gives to those whom the key is about.
func (l ACL) entry(key ACLEntry) (Mode, bool) {
	i := slices.IndexFunc(l, key.same)
	if i < 0 {
		return 0, false
	}
	return l[i].May, true
}

// put adds an entry, or replaces the one about the same.
func (l *ACL) put(e ACLEntry) {
	if i := slices.IndexFunc(*l, e.same); i >= 0 {
		(*l)[i] = e
		return
	}
	*l = append(*l, e)
	l.sort()
}

// complete checks a list and adds the masks that it needs: what users and groups that
// it names, and the owning group, have at most.
func (l *ACL) complete(k Kind) error {
	for _, d := range []bool{false, true} {
		var union Mode
		named, any, n := false, false, 0
		for _, e := range *l {
			if e.Default != d {
				continue
			}
			any = true
			if n++; n >= maxACL { // a mask may follow
				return fault.New(fault.InvalidArgument, "An access control list has at most 32 entries, and as many default ones.")
			}
			if e.ID != "" || e.Kind == ACLGroup {
				union |= e.May
				named = named || e.ID != ""
			}
		}
		if !any && d {
			continue
		}
		if any && d && k == File {
			return fault.New(fault.InvalidArgument, "Only a folder has default entries in its access control list.")
		}
		for _, kind := range []ACLKind{ACLUser, ACLGroup, ACLOther} {
			if _, ok := l.entry(ACLEntry{Default: d, Kind: kind}); !ok {
				return fault.New(fault.InvalidArgument, "An access control list says what the owner, the owning group and all others may.")
			}
		}
		if _, masked := l.entry(ACLEntry{Default: d, Kind: ACLMask}); named && !masked {
			l.put(ACLEntry{Default: d, Kind: ACLMask, May: union})
		}
	}
	return nil
}

// mode returns the mode that goes with the list; sticky stays as it was.
func (l ACL) mode(was Mode) Mode {
	owner, _ := l.entry(ACLEntry{Kind: ACLUser})
	group, _ := l.entry(ACLEntry{Kind: ACLGroup})
	if mask, ok := l.entry(ACLEntry{Kind: ACLMask}); ok {
		group = mask
	}
	other, _ := l.entry(ACLEntry{Kind: ACLOther})
	m := modeSet | was&Sticky | owner<<6 | group<<3 | other
	if len(l) > 3 {
		m |= Extended
	}
	return m
}
