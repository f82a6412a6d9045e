package history

import (
	"strings"
	"time"

	"github.com/kluis-io/kluis/posture"
)

// A Standing says which spans are asked for, by how they stand.
type Standing string

// The standings.
const (
	Open        Standing = "open"     // fails, is unknown or is excepted now
	Accepted    Standing = "excepted" // open, and somebody has accepted it
	NotAccepted Standing = "standing" // open, and nobody has
	Over        Standing = "resolved"
	Any         Standing = "any"
)

// A Selection says which spans are asked for. What is empty selects all.
type Selection struct {
	Estate   string
	Standing Standing         // Any if ""
	AtLeast  posture.Severity // this bad, or worse
	Control  string           // or the beginning of one that ends in *
	Resource string           // a part of the resource's id or name; case does not matter
	Finding  string           // its id
	Order    Order            // Oldest if ""
}

// An Order is one in which spans are read.
type Order string

// The orders. Within each, estate, beginning and id decide.
const (
	Oldest Order = "oldest" // by estate and beginning
	Newest Order = "newest" // the last to begin first, of all estates together
	Worst  Order = "worst"  // by severity
)

// Orders are all of them.
var Orders = []Order{Oldest, Newest, Worst}

// Beginning returns what the control begins with, and whether that is not the whole.
func (s Selection) Beginning() (begin string, more bool) { return strings.CutSuffix(s.Control, "*") }

// A Place is that of one span among all; the zero one comes before any.
type Place struct {
	Estate   string
	First    time.Time // in microseconds
	Finding  string
	Severity posture.Severity
}

// Place returns where a span stands.
func (s Span) Place() Place { return Place{s.Estate, s.First, s.Finding.ID, s.Finding.Severity} }
