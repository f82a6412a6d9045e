package root

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
)

const (
	sharePrefix = "KLUIS-SHARE-1" // the 1 is the version of the encoding
	checkSize   = 8               // bytes that follow the root in what is shared
	valueSize   = envelope.KeySize + checkSize
	sumSize     = 4
	shareSize   = 2 + 1 + 1 + idSize + valueSize + sumSize
	groupSize   = 5 // characters between hyphens
)

// A Share is one recovery share of a root.
type Share struct {
	root       [idSize]byte
	generation uint16
	threshold  byte // how many it takes
	index      byte // from 1
	value      []byte
}

// Shares are recovery shares of one root.
type Shares []Share

// Split makes a new set of n shares, any m of which give the root back. 2 ≤ m ≤
// n ≤ 255. Earlier sets stay good, and do not mix with this one.
func (r *Root) Split(n, m int) (Shares, error) {
	r.mustBeOpen()
	if m < 2 || m > n || n > 255 {
		return nil, fault.New(fault.InvalidArgument, fmt.Sprintf("%d of %d shares: the threshold is at least 2 and at most the number of shares, which is at most 255.", m, n))
	}
	secret := slices.Concat(r.key[:], r.check())
	defer clear(secret)
	shares := make(Shares, n)
	for i, v := range split(secret, n, m) {
		shares[i] = Share{root: r.id, generation: r.generation, threshold: byte(m), index: byte(i + 1), value: v}
	}
	return shares, nil
}

// Index numbers the shares of a set from 1.
func (s Share) Index() int { return int(s.index) }

// Threshold returns how many shares it takes.
func (s Share) Threshold() int { return int(s.threshold) }

// RootID returns the id of the root that it is a share of.
func (s Share) RootID() string { return fmt.Sprintf("%x", s.root) }

// String says which share it is, without its secret.
func (s Share) String() string {
	return fmt.Sprintf("share %d of root %x, %d needed", s.index, s.root, s.threshold)
}

// LogValue keeps the secret out of logs.
func (s Share) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Text returns the share as one line to print and copy by hand: a prefix, and
// base32 in groups of five. It is secret.
//
// The bytes are: generation (2, big-endian), threshold (1), index (1), root id
// (16), value (40), and the first 4 bytes of the SHA-256 of the prefix and all
// that.
func (s Share) Text() string {
	b := make([]byte, 0, shareSize)
	b = binary.BigEndian.AppendUint16(b, s.generation)
	b = append(b, s.threshold, s.index)
	b = append(b, s.root[:]...)
	b = append(b, s.value...)
	b = append(b, checksum(b)...)
	defer clear(b)
	var out strings.Builder
	out.WriteString(sharePrefix)
	for group := range slices.Chunk([]byte(base32.StdEncoding.EncodeToString(b)), groupSize) {
		out.WriteByte('-')
		out.Write(group)
	}
	return out.String()
}

func checksum(b []byte) []byte {
	sum := sha256.Sum256(append([]byte(sharePrefix), b...))
	return sum[:sumSize]
}

// ParseShare reads a share's text. Case, spaces and hyphens do not matter, since
// people copy it; everything else does. The error never quotes the text.
func ParseShare(text string) (Share, error) {
	bad := func(detail string) (Share, error) { return Share{}, fault.New(fault.InvalidArgument, detail) }
	squeeze := strings.NewReplacer("-", "", " ", "", "\t", "", "\r", "", "\n", "")
	if len(text) > 1024 {
		return bad("A recovery share is one line of about 140 characters.")
	}
	body, ok := strings.CutPrefix(strings.ToUpper(squeeze.Replace(text)), strings.ReplaceAll(sharePrefix, "-", ""))
	if !ok {
		return bad("A recovery share begins with " + sharePrefix + ".")
	}
	b, err := base32.StdEncoding.DecodeString(body)
	defer clear(b)
	if err != nil || len(b) != shareSize || base32.StdEncoding.EncodeToString(b) != body {
		return bad("The recovery share has a wrong character or a wrong length.")
	}
	b, sum := b[:shareSize-sumSize], b[shareSize-sumSize:]
	if !bytes.Equal(sum, checksum(b)) {
		return bad("The recovery share was copied wrongly: its checksum does not fit.")
	}
	s := Share{generation: binary.BigEndian.Uint16(b), threshold: b[2], index: b[3], value: bytes.Clone(b[4+idSize:])}
	copy(s.root[:], b[4:])
	if s.generation == 0 || s.threshold < 2 || s.index == 0 {
		return bad("The recovery share makes no sense.")
	}
	return s, nil
}

// combine returns what was shared, and the first of the shares for what they all
// say.
func (s Shares) combine() (secret []byte, first Share, err error) {
	if len(s) == 0 {
		return nil, Share{}, fault.New(fault.InvalidArgument, "No recovery shares were given.")
	}
	first = s[0]
	var xs []byte
	var ys [][]byte
	for _, share := range s {
		switch {
		case share.root != first.root || share.generation != first.generation || share.threshold != first.threshold:
			return nil, first, fault.New(fault.InvalidArgument, "The recovery shares are not of one set.")
		case len(share.value) != valueSize || share.index == 0:
			return nil, first, fault.Wrap(fault.InvalidArgument, errors.New("empty share"), "A recovery share makes no sense.")
		case bytes.IndexByte(xs, share.index) >= 0:
			return nil, first, fault.New(fault.InvalidArgument, fmt.Sprintf("Recovery share %d was given twice.", share.index))
		}
		xs, ys = append(xs, share.index), append(ys, share.value)
	}
	m := int(first.threshold)
	if len(xs) < m {
		return nil, first, fault.New(fault.InvalidArgument, fmt.Sprintf("It takes %d recovery shares, and %d were given.", m, len(xs)))
	}
	return combine(xs, ys), first, nil
}
