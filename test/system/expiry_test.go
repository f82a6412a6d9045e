package system_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/sdk"
)

// TestExpiryIsNotRevocation lets a key expire: what lies under it goes on reading, over
// leases and over a restart, and can be written. Nothing new goes under the key, by no
// assignment and by no version that expired before it was made; and a scan finds it.
func TestExpiryIsNotRevocation(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := &site{data: filepath.Join(t.TempDir(), "data"), port: devtest.FreePort(t)}
	env := []string{"KLUIS_LEASE=2s", "KLUIS_BOUND=5s"}
	p := start(t, s.data, s.port, env...)
	s.connect(t)
	s.furnish(ctx, t)
	must(t, s.assign(ctx))
	under := s.await(ctx, t, "Active").KeyVersion
	past := time.Now().Add(-time.Hour)
	attributes := &azkeys.KeyAttributes{Expires: &past}
	_, err := s.keys.UpdateKey(ctx, keyName, lastSegment(under), azkeys.UpdateKeyParameters{KeyAttributes: attributes}, nil)
	must(t, err)

	// The platform sees it at a renewal, and goes on.
	findings := func() (all struct{ Findings []string }) {
		must(t, s.engineer.Fabric.Call(ctx, "GET", "/workspaces/"+s.workspace+"/encryption", nil, &all))
		return all
	}
	expired := func() error {
		must(t, s.readBack(ctx)) // every time, however often the lease was renewed
		if f := findings().Findings; !slices.Contains(f, "KeyExpired") {
			return fmt.Errorf("findings: %v", f)
		}
		return nil
	}
	eventually(ctx, t, time.Minute, expired)
	s.put(ctx, t, "lake.Lakehouse/Files/after.txt", []byte("written after the key had expired"))
	p.stop(t)
	p = start(t, s.data, s.port, env...)
	s.connect(t)
	must(t, s.readBack(ctx)) // each lease is a new one

	// Nothing new goes under it.
	var other struct{ ID string }
	must(t, s.engineer.Fabric.Call(ctx, "POST", "/workspaces", map[string]string{"displayName": "other"}, &other))
	err = s.engineer.Fabric.Call(ctx, "POST", "/workspaces/"+other.ID+"/encryption/assign", map[string]string{"keyIdentifier": s.identifier}, nil)
	var refused *sdk.FabricError
	if !errors.As(err, &refused) || refused.Status/100 != 4 {
		t.Errorf("an expired key was assigned: %v", err)
	}
	t.Log(err)
	_, err = s.keys.WrapKey(ctx, keyName, lastSegment(under), azkeys.KeyOperationParameters{Algorithm: to.Ptr(azkeys.EncryptionAlgorithmRSAOAEP256), Value: make([]byte, 32)}, nil)
	if !forbidden(err) {
		t.Errorf("wrapping with an expired key: %v", err)
	}
	made, err := s.keys.CreateKey(ctx, keyName, azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA), KeyAttributes: attributes}, nil)
	must(t, err)
	p.stop(t) // whoever opens a workspace looks for newer versions of its key
	p = start(t, s.data, s.port, env...)
	s.connect(t)
	eventually(ctx, t, time.Minute, expired)
	st, err := s.engineer.Fabric.Encryption(ctx, s.workspace)
	must(t, err)
	if st.KeyVersion != under || st.Serving.State != "Serving" {
		t.Errorf("the workspace is under %s and %s; the version %s is expired as well", st.KeyVersion, st.Serving.State, made.Key.KID.Version())
	}

	// Whoever watches is told.
	scan := exec.Command(build(t), "posture", "scan", "--source", "profile", "--output", "json")
	scan.Env = append(os.Environ(), "KLUIS_PROFILE="+filepath.Join(s.data, "bootstrap.json"))
	scan.Stderr = os.Stderr
	text, err := scan.Output()
	must(t, err)
	var found struct {
		Findings []struct{ Control, Resource, State string }
	}
	must(t, json.Unmarshal(text, &found))
	told := 0
	for _, f := range found.Findings {
		if f.Control == "EXPIRED" && f.State == "fail" {
			told++
			t.Logf("%+v", f)
		}
	}
	if told == 0 {
		t.Errorf("the scan does not tell of the expired key: %+v", found.Findings)
	}
	p.stop(t)
	s.fsck(t)
}
