package storagewire_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/api/storagewire"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

// A body gives some bytes, and then an error or an early end.
type body struct {
	text string
	err  error
}

func (b body) WriteTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, b.text)
	if err == nil {
		err = b.err
	}
	return int64(n), err
}

func serve(t *testing.T, c storagewire.Content, pairs ...string) (*http.Response, error) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := storagewire.ServeContent(w, r, c, func(h http.Header) { storagewire.Config{}.SetProperties(h, c.Properties) })
		if err != nil {
			http.Error(w, string(fault.ReasonOf(err)), http.StatusTeapot)
		}
	}))
	t.Cleanup(server.Close)
	r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header(pairs...)
	return server.Client().Do(r)
}

// A read that fails or ends in the middle is broken off: whatever the client got,
// it cannot take it for the whole.
func TestServeContentBreaksOff(t *testing.T) {
	text := strings.Repeat("x", 100_000) // beyond what net/http buffers
	for name, b := range map[string]body{
		"refused by the vault": {text, fault.New(fault.KEKRefused, "")},
		"unreachable":          {text, fault.New(fault.KEKUnreachable, "")},
		"damaged":              {text, fault.New(fault.Integrity, "")},
		"ended early":          {text, nil},
		"failed at once":       {"", errors.New("disk")},
		"failed at the end":    {text + text, errors.New("disk")},
	} {
		t.Run(name, func(t *testing.T) {
			p := lake.Properties{Kind: lake.File, Size: 200_000, ETag: `"1"`}
			resp, err := serve(t, storagewire.Content{Properties: p, Length: 200_000, Body: b})
			if err != nil {
				return // broken off before the headers left
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if name == "failed at the end" {
				if len(got) > 200_000 {
					t.Errorf("%d bytes came", len(got))
				}
				return // all bytes were out already
			}
			if err == nil || len(got) >= 200_000 {
				t.Errorf("%d bytes came, and an end: %v", len(got), err)
			}
		})
	}
}

func TestServeContent(t *testing.T) {
	p := lake.Properties{Kind: lake.File, Size: 10, ETag: `"1"`, Headers: lake.ContentHeaders{MD5: make([]byte, 16), Encoding: "gzip2"}}
	for _, tt := range []struct {
		name   string
		c      storagewire.Content
		header []string
		status int
		want   map[string]string
		body   string
	}{
		{"whole", storagewire.Content{Length: 10, Body: body{text: "0123456789"}}, nil, 200,
			map[string]string{"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA==", "Content-Length": "10", "Content-Range": "", "Accept-Ranges": "bytes"}, "0123456789"},
		{"empty", storagewire.Content{Body: body{}}, nil, 200, map[string]string{"Content-Length": "0"}, ""},
		{"range", storagewire.Content{Offset: 3, Length: 4, Ranged: true, Body: body{text: "3456"}}, nil, 206,
			map[string]string{"Content-Range": "bytes 3-6/10", "Content-MD5": "", "x-ms-blob-content-md5": "AAAAAAAAAAAAAAAAAAAAAA=="}, "3456"},
		{"range with MD5", storagewire.Content{Offset: 3, Length: 4, Ranged: true, Body: body{text: "3456"}}, []string{"x-ms-range-get-content-md5", "true"}, 206,
			map[string]string{"Content-MD5": "3veSTjGZvl4YBguz4dVHpw=="}, "3456"},
		{"range of nothing", storagewire.Content{Ranged: true, Body: body{}}, nil, 418, map[string]string{"Content-Encoding": ""}, "RangeNotSatisfiable\n"},
		{"MD5 of all", storagewire.Content{Length: 10, Body: body{text: "0123456789"}}, []string{"x-ms-range-get-content-md5", "true"}, 418, nil, "InvalidArgument\n"},
		{"MD5 of much", storagewire.Content{Length: 4<<20 + 1, Ranged: true, Body: body{}}, []string{"x-ms-range-get-content-md5", "true"}, 418, nil, "InvalidArgument\n"},
		{"refused before the first byte", storagewire.Content{Length: 1, Ranged: true, Body: body{err: fault.KEKRefused}},
			[]string{"x-ms-range-get-content-crc64", "true"}, 418, nil, "KEKRefused\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.c.Properties = p
			resp, err := serve(t, tt.c, tt.header...)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != tt.status || string(got) != tt.body {
				t.Errorf("got %d %q, %v", resp.StatusCode, got, err)
			}
			for name, v := range tt.want {
				if got := resp.Header.Get(name); got != v {
					t.Errorf("%s is %q, want %q", name, got, v)
				}
			}
		})
	}
}
