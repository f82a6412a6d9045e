package system_test

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/sdk"
	"github.com/kluis-io/kluis/internal/webhook"
)

// TestOutletsCrash kills the server between an event and its row, between a
// delivery and its end, and between an exported line and its position. After a
// restart each event has come, at most twice, and the files hold each entry once.
func TestOutletsCrash(t *testing.T) {
	t.Parallel()
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	signed, err := webhook.ParseSecret(secret)
	must(t, err)
	var mu sync.Mutex
	heard := map[string]int{} // deliveries by type and subject
	receiver := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var e struct{ Type, Subject string }
		if err := webhook.Verify(signed, r.Header, body, time.Now()); err != nil || json.Unmarshal(body, &e) != nil {
			t.Errorf("%v: %s", err, body)
		}
		mu.Lock()
		defer mu.Unlock()
		heard[e.Type+" "+e.Subject]++
	}))
	defer receiver.Close()

	dir := t.TempDir()
	data, port, files := filepath.Join(dir, "data"), devtest.FreePort(t), filepath.Join(dir, "siem")
	published := filepath.Join(dir, "published")
	ca, secretFile, config := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "secret"), filepath.Join(dir, "kluis.yaml")
	must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: receiver.Certificate().Raw}), 0o600))
	must(t, os.WriteFile(secretFile, []byte(secret), 0o600))
	must(t, os.WriteFile(config, fmt.Appendf(nil, "webhooks: [{name: siem, url: %q, secretFile: %q, ca: %q}]\naudit: {files: %q, tiles: {place: %q, every: 100ms}}\n",
		receiver.URL, secretFile, ca, files, published), 0o600))
	env := "KLUIS_CONFIG=" + config
	create := func(name string) error {
		target, err := sdk.ReadTarget(data)
		must(t, err)
		clients, err := sdk.New(target)
		must(t, err)
		officer, err := clients.Officer()
		must(t, err)
		keys, err := officer.Keys(target.VaultURI("default"))
		must(t, err)
		_, err = keys.CreateKey(t.Context(), name, azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA)}, nil)
		return err
	}
	arrives := func(name string, versions int) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			mu.Lock()
			n := heard["Microsoft.KeyVault.KeyNewVersionCreated "+name]
			mu.Unlock()
			if n > 2*versions {
				t.Fatalf("the event of %s came %d times", name, n)
			}
			if n > 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("the event of %s was lost", name)
			}
		}
	}
	p := start(t, data, port, env)
	// What happened before the first look at the feeds becomes no event.
	for looked := false; !looked; time.Sleep(100 * time.Millisecond) {
		must(t, create("first"))
		mu.Lock()
		looked = heard["Microsoft.KeyVault.KeyNewVersionCreated first"] > 0
		mu.Unlock()
	}
	p.stop(t)

	for i, point := range []string{
		"vault/event/before-collect", "vault/event/after-send", "audit/export/written",
		"audit/tiles/tile-written", "audit/tiles/all-written", "audit/tiles/checkpoint-published",
	} {
		name := fmt.Sprintf("key%d", i)
		p := start(t, data, port, env, "KLUIS_FAILPOINTS="+point+"=exit")
		versions := 1
		made := p.alive() && create(name) == nil // it may fail: the server dies of it
		select {
		case <-p.exited:
		case <-time.After(time.Minute): // on PostgreSQL the turn of one that died ends after 15 s
			t.Fatalf("nothing passes the failpoint %s", point)
		}
		p = start(t, data, port, env)
		if !made {
			must(t, create(name)) // a version more, if it was made after all
			versions++
		}
		arrives(name, versions)
		p.stop(t)
	}
	p = start(t, data, port, env)
	var lines []string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		text, err := os.ReadFile(filepath.Join(files, "vault", "audit.ndjson"))
		must(t, err)
		lines = strings.Split(strings.TrimSpace(string(text)), "\n")
		if slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "/keys/key2/") }) {
			break
		}
	}
	p.stop(t)
	sequence := regexp.MustCompile(`"sequence":(\d+)`)
	for i, l := range lines {
		if m := sequence.FindStringSubmatch(l); m == nil || m[1] != fmt.Sprint(i) {
			t.Fatalf("line %d of the export is %s", i, l)
		}
	}
	if len(lines) < 10 {
		t.Errorf("%d lines only", len(lines))
	} // What is published is the log, whatever crashed when: it holds, and tells of every key.
	logs, err := filepath.Glob(filepath.Join(published, "*", "vault"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("published are %v, %v", logs, err)
	}
	out, err := kluis(t, data, "audit", "verify", "--tiles", logs[0], "--key", filepath.Join(data, "vault", "audit.key.pub"), "--output", "json").CombinedOutput()
	if err != nil {
		t.Errorf("what is published does not hold: %v\n%s", err, out)
	}
	var text []byte
	must(t, filepath.WalkDir(filepath.Join(logs[0], "tile", "entries"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		bundle, err := os.ReadFile(path)
		text = append(text, bundle...)
		return err
	}))
	for i := range 5 {
		if !bytes.Contains(text, fmt.Appendf(nil, "/keys/key%d", i)) {
			t.Errorf("key%d is not published", i)
		}
	}
}
