package blob_test

import (
	"io"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/api/blob"
	"github.com/kluis-io/kluis/api/storagewire/wiretest"
	"github.com/kluis-io/kluis/fault"
)

// batchBody joins parts, each a request as text.
func batchBody(parts ...string) string {
	var b strings.Builder
	for i, p := range parts {
		b.WriteString("--b\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\nContent-ID: " + string(rune('0'+i)) + "\r\n\r\n" + p + "\r\n")
	}
	return b.String() + "--b--\r\n"
}

// Each part of a batch is authorised and answered by itself.
func TestBatch(t *testing.T) {
	const good = "Authorization: Bearer good\r\n"
	body := batchBody(
		"DELETE /ws/i/Files/a HTTP/1.1\r\n"+good+"Content-Length: 0\r\n",
		"DELETE /ws/i/Files/a HTTP/1.1\r\n\r\n",
		"GET /ws/i/Files/a HTTP/1.1\r\n"+good,
		"DELETE /other/i/Files/a HTTP/1.1\r\n"+good,
		"POST /?comp=batch HTTP/1.1\r\n"+good,
		"PUT /ws/i/Files/a%20b?comp=tier HTTP/1.1\r\n"+good+"x-ms-access-tier: Hot\r\n",
	)
	resp := ask(&canned{}, "POST", "/ws?restype=container&comp=batch", body, "Content-Type: multipart/mixed; boundary=b")
	got := wiretest.Text(t, resp)
	var status []string
	for line := range strings.SplitSeq(got, "\r\n") {
		if s, ok := strings.CutPrefix(line, "HTTP/1.1 "); ok {
			status = append(status, s[:3])
		}
	}
	if s := strings.Join(status, " "); resp.StatusCode != 202 || s != "202 401 501 400 501 200" {
		t.Errorf("%d, parts %s\n%s", resp.StatusCode, s, got)
	}
	if !strings.Contains(got, "Content-ID: 5") || !strings.Contains(got, "x-ms-error-code: NotImplemented") { // clients compare the case
		t.Errorf("the parts have lost their ids, or their codes:\n%s", got)
	}
	for name, body := range map[string]string{
		"no part": batchBody(), "cut off": body[:100], "no HTTP": batchBody("hello"),
		"a body": batchBody("DELETE /ws/i/Files/a HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody"),
		"many":   batchBody(strings.Split(strings.Repeat("DELETE /a/b HTTP/1.1\r\n;", 257), ";")[:257]...),
	} {
		if resp := ask(&canned{}, "POST", "/?comp=batch", body, "Content-Type: multipart/mixed; boundary=b"); resp.StatusCode != 400 {
			t.Errorf("%s: %d", name, resp.StatusCode)
		}
	}
	l := &canned{err: fault.New(fault.LeaseHeld, "")}
	if got := wiretest.Text(t, ask(l, "POST", "/?comp=batch", batchBody("DELETE /ws/i/Files/a HTTP/1.1\r\n"+good), "Content-Type: multipart/mixed; boundary=b")); !strings.Contains(got, "HTTP/1.1 412") {
		t.Errorf("a refused part:\n%s", got)
	}
}

// Whatever comes as a batch, its parts have no bodies and are few.
func FuzzParseBatch(f *testing.F) {
	f.Add("multipart/mixed; boundary=b", batchBody("DELETE /ws/i/a HTTP/1.1\r\nAuthorization: x\r\n\r\n"))
	f.Add("multipart/mixed; boundary=b", batchBody("PUT /ws/i/a?comp=tier HTTP/1.1\r\n", "GET / HTTP/1.0\r\n\r\n"))
	f.Add("multipart/mixed", "--b--")
	f.Fuzz(func(t *testing.T, contentType, body string) {
		parts, err := blob.ParseBatch(contentType, strings.NewReader(body))
		if err != nil {
			if fault.ReasonOf(err) != fault.InvalidArgument {
				t.Fatal(err)
			}
			return
		}
		if len(parts) == 0 || len(parts) > 256 {
			t.Fatalf("%d parts", len(parts))
		}
		for _, r := range parts {
			if b, _ := io.ReadAll(r.Body); len(b) > 0 || r.Method == "" {
				t.Fatalf("%s with a body of %d bytes", r.Method, len(b))
			}
		}
		ask(&canned{}, "POST", "/?comp=batch", body, "Content-Type: "+strings.Map(printable, contentType))
	})
}

func printable(r rune) rune {
	if r < 0x20 || r > 0x7e {
		return -1
	}
	return r
}
