package system_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/google/uuid"

	"github.com/kluis-io/kluis/drill"
	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/portal/portaltest"
)

// cryptoOfficer is Azure's role Key Vault Crypto Officer.
const cryptoOfficer = "14b46e9e-c2b7-41b4-b07b-48a6ebf60603"

// TestDrillCrash kills who runs a drill at each step that changes the key: the command,
// and the portal with its server. The vault knows what the drill has left away, and one
// command, or one click of somebody who may change the key, gives it back.
func TestDrillCrash(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := &site{data: filepath.Join(t.TempDir(), "data"), port: devtest.FreePort(t)}
	p := start(t, s.data, s.port)
	s.connect(t)
	s.furnish(ctx, t)
	must(t, s.assign(ctx))
	s.await(ctx, t, "Active")
	_, err := s.keys.RotateKey(ctx, keyName, nil) // so that there are two versions to take away
	must(t, err)
	_, err = s.keys.UpdateKey(ctx, keyName, "", azkeys.UpdateKeyParameters{Tags: map[string]*string{"owner": to.Ptr("treasury")}}, nil)
	must(t, err)
	key := drill.Key{Client: s.keys, Name: keyName}
	left := func(want int) {
		t.Helper()
		all, err := key.Left(ctx)
		if err != nil || len(all) != want {
			t.Fatalf("%v; a drill has %d versions away, want %d", err, len(all), want)
		}
	}
	run := func(armed string, args ...string) (string, error) {
		cmd := kluis(t, s.data, append([]string{"drill", "--vault", "custody"}, args...)...)
		cmd.Env = append(cmd.Env, "KLUIS_PROFILE="+filepath.Join(s.data, "bootstrap.json"), "KLUIS_FAILPOINTS="+armed)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, c := range []struct {
		point string
		away  int
	}{{"drill/take/version", 1}, {"drill/take/all", 2}, {"drill/run/dark", 2}, {"drill/give/version", 1}} {
		out, err := run(c.point+"=exit", s.container, "--production", "--yes", "--trials", "1")
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 137 {
			t.Fatalf("%s: %v\n%s", c.point, err, out)
		}
		left(c.away)
		if out, err = run("", "--restore"); err != nil || strings.Count(out, keyName+" ") != c.away {
			t.Fatalf("%s: %v\n%s", c.point, err, out)
		}
		s.sound(ctx, t, key)
	}

	// An error gives the key back at once.
	if out, err := run("drill/run/dark=error", s.container, "--production", "--yes", "--trials", "1"); err == nil {
		t.Errorf("it did not fail:\n%s", out)
	}
	s.sound(ctx, t, key)
	p.stop(t)

	// The portal, by somebody who may both change the key and use the data.
	p = start(t, s.data, s.port, "KLUIS_FAILPOINTS=drill/run/dark=exit")
	s.connect(t)
	target := s.clients.Target
	who := target.Users["engineer"]
	must(t, s.engineer.Fabric.Call(ctx, "POST", "/workspaces/"+s.workspace+"/roleAssignments",
		map[string]any{"principal": map[string]string{"id": who.ObjectID, "type": "User"}, "role": "Admin"}, nil))
	_, err = s.officer.Roles.Create(ctx, s.vaultID, uuid.NewString(), armauthorization.RoleAssignmentCreateParameters{Properties: &armauthorization.RoleAssignmentProperties{
		RoleDefinitionID: to.Ptr("/subscriptions/" + target.SubscriptionID + "/providers/Microsoft.Authorization/roleDefinitions/" + cryptoOfficer),
		PrincipalID:      to.Ptr(who.ObjectID), PrincipalType: to.Ptr(armauthorization.PrincipalTypeUser),
	}}, nil)
	must(t, err)
	v := portaltest.NewVisitor(t, s.clients.HTTP.Transport, target.Endpoints["portal"])
	if at := v.SignIn(who.Name, who.Password); at.Status != 200 {
		t.Fatalf("%d at %s", at.Status, at.URL)
	}
	if r, err := v.Send("POST", "/drill/"+s.workspace, url.Values{"name": {s.container}}); err == nil {
		t.Fatalf("the portal did not die: %d\n%s", r.Status, r.Body)
	}
	<-p.exited

	p = start(t, s.data, s.port)
	s.connect(t)
	left(2)
	for _, path := range []string{"/", "/drill", "/drill/" + s.workspace} {
		if at := v.Get(path); !strings.Contains(at.Body, "Give the key back") || !strings.Contains(at.Body, `action="/drill/restore"`) {
			t.Errorf("%s says nothing of the drill:\n%s", path, at.Body)
		}
	}
	all, err := key.Left(ctx)
	must(t, err)
	if at := v.Post("/drill/restore", url.Values{"kid": {all[0].KID}, "return": {"/"}}); at.Status != 200 || !strings.Contains(at.Body, "The key is back") {
		t.Errorf("%d at %s:\n%s", at.Status, at.URL, at.Body)
	}
	s.sound(ctx, t, key)
	p.stop(t)
	s.fsck(t)
}

// sound checks that the key is back, as it was, and that everything reads.
func (s *site) sound(ctx context.Context, t *testing.T, key drill.Key) {
	t.Helper()
	for pager := s.keys.NewListKeyPropertiesVersionsPager(keyName, nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		must(t, err)
		for _, v := range page.Value {
			if !*v.Attributes.Enabled || v.Tags[drill.Mark] != nil {
				t.Errorf("version %s: enabled %t, tags %v", v.KID.Version(), *v.Attributes.Enabled, v.Tags)
			}
		}
	}
	if now, err := s.keys.GetKey(ctx, keyName, "", nil); err != nil || now.Tags["owner"] == nil {
		t.Errorf("%v: the key's own tags are %v", err, now.Tags)
	}
	eventually(ctx, t, 40*time.Second, func() error {
		st, err := s.engineer.Fabric.Encryption(ctx, s.workspace)
		if err == nil && st.Serving.State != "Serving" {
			err = fmt.Errorf("it is %s", st.Serving.State)
		}
		return err
	})
	_, err := s.get(ctx, s.smallest())
	must(t, err)
}
