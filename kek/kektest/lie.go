package kektest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/kluis-io/kluis/kek"
)

// An Exchange is one request to a [Server] and the means to answer it.
type Exchange struct {
	W      http.ResponseWriter
	R      *http.Request
	honest func() reply // the right answer, with the effects that it has
	server *Server
}

func (x *Exchange) reply(r reply) {
	for name, v := range r.header {
		x.W.Header()[name] = v
	}
	x.W.Header().Set("Content-Type", "application/json")
	x.W.WriteHeader(r.status)
	json.NewEncoder(x.W).Encode(r.body)
}

// wait waits until the time is over, the client gives up or the test ends, and
// reports whether it was the time.
func (x *Exchange) wait(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-x.R.Context().Done():
	case <-x.server.done:
	}
	return false
}

// A Lie answers a request as it likes.
type Lie func(*Exchange)

// edited answers honestly but for an edit of the body.
func edited(edit func(body map[string]any)) Lie {
	return func(x *Exchange) {
		r := x.honest()
		edit(r.body)
		x.reply(r)
	}
}

// WrongKID answers with the right result, about another version.
func WrongKID() Lie {
	return edited(func(body map[string]any) {
		other := func(kid any) string {
			s := fmt.Sprint(kid)
			return s[:len(s)-32] + strings.Repeat("0", 32)
		}
		if key, ok := body["key"].(map[string]any); ok {
			key["kid"] = other(key["kid"])
		} else {
			body["kid"] = other(body["kid"])
		}
	})
}

// NoKID leaves out which key the answer is about.
func NoKID() Lie {
	return edited(func(body map[string]any) {
		if key, ok := body["key"].(map[string]any); ok {
			delete(key, "kid")
		}
		delete(body, "kid")
	})
}

// Result answers with the given bytes in place of the right ones.
func Result(b []byte) Lie { return edited(func(body map[string]any) { body["value"] = b64(b) }) }

// OtherShare answers an unwrap with 32 bytes that are somebody else's.
func OtherShare() Lie {
	b := make([]byte, kek.ShareSize)
	rand.Read(b)
	return Result(b)
}

// OtherKey answers with another key's public half in place of the right one's.
func (s *Server) OtherKey() Lie {
	other := takeKey(s.t)
	return edited(func(body map[string]any) { body["key"].(map[string]any)["n"] = b64(other.N.Bytes()) })
}

// Truncated cuts the body in half, under a length that says so.
func Truncated() Lie {
	return func(x *Exchange) {
		r := x.honest()
		b, _ := json.Marshal(r.body)
		x.W.WriteHeader(r.status)
		x.W.Write(b[:len(b)/2])
	}
}

// Status answers with a status and an error of the vault's shape.
func Status(status int, code string) Lie {
	return func(x *Exchange) {
		r := refusal(&kek.Answer{Status: status, Code: code})
		if status == http.StatusUnauthorized {
			r.header = x.server.challenge().header
		}
		x.reply(r)
	}
}

// Raw answers with a status and a body of any kind.
func Raw(status int, body string) Lie {
	return func(x *Exchange) {
		x.W.WriteHeader(status)
		fmt.Fprint(x.W, body)
	}
}

// OAuth answers with a directory's error (RFC 6749, 5.2).
func OAuth(status int, code, description string) Lie {
	return func(x *Exchange) {
		x.reply(reply{status: status, body: map[string]any{"error": code, "error_description": description}})
	}
}

// Throttle answers 429, with Retry-After unless that is empty.
func Throttle(retryAfter string) Lie {
	return func(x *Exchange) {
		if retryAfter != "" {
			x.W.Header().Set("Retry-After", retryAfter)
		}
		x.reply(refusal(&kek.Answer{Status: 429, Code: "Throttled"}))
	}
}

// Ask answers with a challenge of the given header, 401.
func Ask(header string) Lie {
	return func(x *Exchange) {
		if header != "" {
			x.W.Header().Set("WWW-Authenticate", header)
		}
		x.W.WriteHeader(http.StatusUnauthorized)
	}
}

// Redirect sends the client elsewhere.
func Redirect(status int, to string) Lie {
	return func(x *Exchange) { http.Redirect(x.W, x.R, to, status) }
}

// Garbage answers 200 with what is no JSON.
func Garbage() Lie { return Raw(http.StatusOK, "<html>\x00{") }

// Hang does not answer.
func Hang() Lie { return func(x *Exchange) { x.wait(time.Hour) } }

// Cut closes the connection.
func Cut() Lie { return func(*Exchange) { panic(http.ErrAbortHandler) } }

// Drip sends one byte of the right answer every 10 ms, after it has promised a lot.
func Drip() Lie {
	return func(x *Exchange) {
		x.W.Header().Set("Content-Length", "60000")
		x.W.WriteHeader(http.StatusOK)
		for x.wait(10 * time.Millisecond) {
			if _, err := x.W.Write([]byte("{")); err != nil {
				return
			}
			x.W.(http.Flusher).Flush()
		}
	}
}

// Flood answers with a body of 10 GB, and says with how much of it the client let
// itself be fed.
func Flood(sent *int64) Lie {
	return func(x *Exchange) {
		x.W.WriteHeader(http.StatusOK)
		chunk := []byte(strings.Repeat(" ", 32<<10))
		for *sent = 0; *sent < 10<<30; {
			n, err := x.W.Write(chunk)
			*sent += int64(n)
			if err != nil {
				return
			}
		}
	}
}
