package session

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// The cookies' names. By their prefix nobody but this very host can have set them
// (RFC 6265bis §4.1.3.2).
const (
	sessionCookie = "__Host-kluis-session"
	beginCookie   = "__Host-kluis-begin-"
)

// Browsers keep cookies of 4096 bytes with their names; a longer session lies in several,
// of which Entra's needs two.
const (
	chunkSize = 3800
	maxChunks = 5
)

// A sealer seals what the browser keeps, with AES-256-GCM under random nonces; the
// purpose is its associated data.
type sealer struct{ aead cipher.AEAD }

func newSealer(key []byte) (*sealer, error) {
	derived, err := hkdf.Expand(sha256.New, key, "kluis/v1/portal-cookie", 32)
	if err != nil {
		return nil, err
	}
	defer clear(derived)
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return &sealer{aead}, err
}

func (s *sealer) seal(purpose string, v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // they are structs of strings and times
	}
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nil, nil, text, []byte(purpose)))
}

func (s *sealer) open(purpose, sealed string, into any) bool {
	b, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil {
		return false
	}
	text, err := s.aead.Open(nil, nil, b, []byte(purpose))
	return err == nil && json.Unmarshal(text, into) == nil
}

func cookie(name, value string, age int) *http.Cookie {
	return &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: age, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
}

func chunkName(n int) string {
	if n == 0 {
		return sessionCookie
	}
	return sessionCookie + "-" + strconv.Itoa(n)
}

// write puts a session into its cookies, in place of what an answer may hold already.
func (s *Sessions) write(w http.ResponseWriter, st state) {
	forget(w)
	sealed := s.seal.seal(sessionCookie, st)
	age := int(s.config.Life.Seconds())
	for n := 0; n < maxChunks; n++ {
		part := sealed[:min(len(sealed), chunkSize)]
		sealed = sealed[len(part):]
		if part == "" {
			http.SetCookie(w, cookie(chunkName(n), "", -1))
			return
		}
		http.SetCookie(w, cookie(chunkName(n), part, age))
	}
	if sealed != "" { // it could not be read again: better none
		s.clear(w)
	}
}

// clear takes the session's cookies away.
func (s *Sessions) clear(w http.ResponseWriter) {
	forget(w)
	for n := range maxChunks {
		http.SetCookie(w, cookie(chunkName(n), "", -1))
	}
}

// forget drops what an answer says of the session so far.
func forget(w http.ResponseWriter) {
	var others []string
	for _, c := range w.Header()["Set-Cookie"] {
		if !strings.HasPrefix(c, sessionCookie) {
			others = append(others, c)
		}
	}
	w.Header()["Set-Cookie"] = others
}

// read returns the session that a request's cookies hold.
func (s *Sessions) read(r *http.Request) (st state, ok bool) {
	var sealed strings.Builder
	for n := range maxChunks {
		c, err := r.Cookie(chunkName(n))
		if err != nil {
			break
		}
		sealed.WriteString(c.Value)
		if len(c.Value) < chunkSize {
			break
		}
	}
	return st, s.seal.open(sessionCookie, sealed.String(), &st)
}
