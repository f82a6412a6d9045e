package identity

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/envelope"
)

// A ticket is what a client holds of a sign-in: its code, or one of its refresh
// tokens. The text is the sign-in's id, a serial number and an HMAC of both under a
// key of the issuer's. So the database holds nothing that could be used; a forgery is
// told from a ticket that was in force once; and who asks twice at once gets the same
// refresh token twice.
type ticket struct {
	kind   ticketKind
	signIn string // UUID
	serial uint32 // 0 for the code
}

// A ticketKind begins a ticket's text, so that scanners find leaked ones.
type ticketKind string

const (
	codeTicket    ticketKind = "kluis_code_"
	refreshTicket ticketKind = "kluis_refresh_"
)

// ticketKey derives the key of an issuer's tickets.
func ticketKey(root *envelope.Key) []byte {
	key, err := hkdf.Expand(sha256.New, root[:], "kluis/v1/sign-in-tickets", sha256.Size)
	if err != nil {
		panic(err) // the length is a constant
	}
	return key
}

func (t ticket) text(key []byte) string {
	id := uuid.MustParse(t.signIn)
	body := binary.BigEndian.AppendUint32(id[:], t.serial)
	return string(t.kind) + base64.RawURLEncoding.EncodeToString(append(body, t.mac(key, body)...))
}

func (t ticket) mac(key, body []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(t.kind))
	h.Write(body)
	return h.Sum(nil)
}

// parseTicket reads a ticket, and reports whether this issuer made it.
func parseTicket(kind ticketKind, text string, key []byte) (ticket, bool) {
	const body = 16 + 4
	encoded, ok := strings.CutPrefix(text, string(kind))
	b, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if !ok || err != nil || len(b) != body+sha256.Size {
		return ticket{}, false
	}
	t := ticket{kind: kind, signIn: uuid.UUID(b[:16]).String(), serial: binary.BigEndian.Uint32(b[16:body])}
	// Base64 has more than one writing, a ticket one alone.
	return t, hmac.Equal([]byte(text), []byte(t.text(key)))
}
