package identity_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/effort"
)

// Google's and C2SP's vectors of what JWT libraries got wrong. What is valid
// there and yet refused here is counted by reason, so that a change shows.
func TestWycheproof(t *testing.T) {
	dir := os.Getenv("KLUIS_TESTDATA")
	if dir == "" {
		effort.Missing(t, "KLUIS_TESTDATA", "Wycheproof's vectors of signatures and key sets")
	}
	for _, c := range []struct {
		file             string
		vectors, refused int // refused: valid, but of an algorithm that is not on our list
	}{
		{"json_web_crypto_test.json", 83, 4},
		{"json_web_key_test.json", 26, 4},
	} {
		t.Run(c.file, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join(dir, "wycheproof", c.file))
			if err != nil {
				t.Fatal(err)
			}
			var file struct {
				TestGroups []struct {
					Public, Private json.RawMessage
					Tests           []struct {
						ID      int `json:"tcId"`
						Comment string
						JWS     json.RawMessage
						Result  string
					}
				}
			}
			if err := json.Unmarshal(raw, &file); err != nil {
				t.Fatal(err)
			}
			vectors, refused, accepted := 0, 0, 0
			for _, g := range file.TestGroups {
				set := g.Public
				if set == nil {
					set = g.Private
				}
				if !strings.Contains(string(set), `"keys"`) {
					set = []byte(`{"keys":[` + string(set) + `]}`)
				}
				keys, keysErr := identity.ParseKeySet(set)
				for _, v := range g.Tests {
					vectors++
					var token string
					if json.Unmarshal(v.JWS, &token) != nil {
						token = string(v.JWS) // JSON serialisation
					}
					_, err := identity.VerifySignature(token, keys)
					held := keysErr == nil && err == nil
					switch {
					case held && v.Result != "valid":
						t.Errorf("%d (%s): accepted", v.ID, v.Comment)
					case held:
						accepted++
					case v.Result == "valid":
						t.Logf("%d (%s): refused: %v %v", v.ID, v.Comment, keysErr, err)
						refused++
					}
				}
			}
			if vectors != c.vectors || refused != c.refused || accepted == 0 {
				t.Errorf("%d vectors, %d accepted, %d valid ones refused; want %d and %d", vectors, accepted, refused, c.vectors, c.refused)
			}
			effort.Proof(t, "vectors", vectors, "left-out-for-a-stated-reason", refused)
		})
	}
}
