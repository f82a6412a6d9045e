// Package system tests kluis as a whole: the real binary as a process of its own,
// the official SDKs as its clients, kill -9 as its enemy.
package system_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/sdk"
	"github.com/kluis-io/kluis/objstore/servertest"
	"github.com/kluis-io/kluis/store/enginetest"
)

// slow says whether the slow cases run: in CI, where time allows.
var slow = os.Getenv("CI") == "true"

var (
	buildOnce sync.Once
	binary    string
	buildErr  error
)

// build builds the binary with its failpoints, once for all tests.
func build(t testing.TB) string {
	t.Helper()
	buildOnce.Do(func() {
		dir, err := os.MkdirTemp("", "kluis-system-")
		if err != nil {
			buildErr = err
			return
		}
		binary = filepath.Join(dir, "kluis")
		cmd := exec.Command("go", "build", "-tags", "failpoints", "-o", binary, "github.com/kluis-io/kluis/cmd/kluis")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			buildErr = fmt.Errorf("building kluis: %w\n%s", err, out)
		}
	})
	if buildErr != nil {
		t.Fatal(buildErr)
	}
	return binary
}

func TestMain(m *testing.M) {
	code := m.Run()
	if binary != "" {
		os.RemoveAll(filepath.Dir(binary))
	}
	os.Exit(code)
}

// A process is a kluis server.
type process struct {
	cmd    *exec.Cmd
	log    *journal
	ready  chan struct{} // closed once it serves, or hangs at a failpoint
	exited chan struct{}
	paused atomic.Bool // it hangs at a failpoint
	err    error
}

// A journal is what a process has written so far.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

// Bytes returns it.
func (j *journal) Bytes() []byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	return bytes.Clone(j.text.Bytes())
}

func (j *journal) String() string { return string(j.Bytes()) }

// start starts a server over a data directory, and waits until it is ready or
// has exited or hangs at a failpoint. Environment variables are NAME=value.
func start(t testing.TB, data, port string, env ...string) *process {
	t.Helper()
	p := launch(t, data, port, env...)
	p.await(t)
	return p
}

// launch starts a server and does not wait.
func launch(t testing.TB, data, port string, env ...string) *process {
	t.Helper()
	p := &process{log: new(journal), ready: make(chan struct{}), exited: make(chan struct{})}
	p.cmd = exec.Command(build(t), "serve", "--dev", "--data", data, "--listen", "127.0.0.1:"+port)
	databases, err := enginetest.Parties(data)
	must(t, err)
	objects, err := servertest.Variables(data)
	must(t, err)
	p.cmd.Env = slices.Concat(objects, os.Environ(), databases, env) // what the test says itself comes last
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		var once sync.Once
		s := bufio.NewScanner(stderr)
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			p.log.Write(append(s.Bytes(), '\n'))
			pauses := strings.HasPrefix(s.Text(), "failpoint ") && strings.HasSuffix(s.Text(), " pauses")
			if pauses {
				p.paused.Store(true)
			}
			if pauses || strings.Contains(s.Text(), `"msg":"serving"`) {
				once.Do(func() { close(p.ready) })
			}
		}
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(p.kill)
	return p
}

// await waits until the server is ready, or has exited, or hangs at a failpoint.
func (p *process) await(t testing.TB) {
	t.Helper()
	select {
	case <-p.ready:
	case <-p.exited:
	case <-time.After(2 * time.Minute): // beside others, on a disk that they share
		p.kill()
		t.Fatalf("the server did not get ready:\n%s", p.log)
	}
}

// kill ends the process as a power cut of the process would: kill -9.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.exited
}

// stop ends it as an operator would, and checks that it goes cleanly.
func (p *process) stop(t testing.TB) {
	t.Helper()
	p.cmd.Process.Signal(os.Interrupt)
	select {
	case <-p.exited:
	case <-time.After(30 * time.Second):
		p.kill()
		t.Fatalf("the server did not stop:\n%s", p.log)
	}
	if p.err != nil {
		t.Fatalf("stopping: %v\n%s", p.err, p.log)
	}
}

// alive reports whether the process still runs.
func (p *process) alive() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// A site is a server's data directory, with what the test has put there.
type site struct {
	data string
	port string

	clients  *sdk.Clients
	officer  *sdk.Officer
	engineer *sdk.Engineer
	keys     *azkeys.Client

	vaultID    string
	identifier string // of the key, versionless
	workspace  string // id
	container  string // the workspace's name
	lakehouse  string // id
	files      map[string][]byte
}

const keyName = "kek"

// connect makes the clients of a running server.
func (s *site) connect(t testing.TB) {
	t.Helper()
	target, err := sdk.ReadTarget(s.data)
	if err != nil {
		t.Fatal(err)
	}
	if s.clients, err = sdk.New(target); err != nil {
		t.Fatal(err)
	}
	s.use(t)
}

// use makes what speaks through the site's clients.
func (s *site) use(t testing.TB) {
	t.Helper()
	var err error
	if s.officer, err = s.clients.Officer(); err != nil {
		t.Fatal(err)
	}
	if s.engineer, err = s.clients.Engineer(); err != nil {
		t.Fatal(err)
	}
	if s.keys, err = s.officer.Keys(s.clients.Target.VaultURI("custody")); err != nil {
		t.Fatal(err)
	}
}

// makeVault makes the vault.
func (s *site) makeVault(ctx context.Context, t testing.TB) {
	t.Helper()
	must(t, s.foundVault(ctx, "custody"))
}

// foundVault makes a vault, which becomes the site's.
func (s *site) foundVault(ctx context.Context, name string) (err error) {
	if err := s.putVault(ctx, name, func(*armkeyvault.VaultProperties) {}); err != nil {
		return err
	}
	made, err := s.officer.Vaults.Get(ctx, "kluis", name, nil)
	if err != nil {
		return err
	}
	s.vaultID = *made.ID
	s.keys, err = s.officer.Keys(s.clients.Target.VaultURI(name))
	return err
}

// putVault gives a vault properties: roles decide, nothing is purged early, and what is edited.
func (s *site) putVault(ctx context.Context, name string, edit func(*armkeyvault.VaultProperties)) error {
	properties := &armkeyvault.VaultProperties{
		TenantID:                &s.clients.Target.TenantID,
		SKU:                     &armkeyvault.SKU{Family: to.Ptr(armkeyvault.SKUFamilyA), Name: to.Ptr(armkeyvault.SKUNameStandard)},
		EnableRbacAuthorization: to.Ptr(true),
		EnablePurgeProtection:   to.Ptr(true),
	}
	edit(properties)
	poller, err := s.officer.Vaults.BeginCreateOrUpdate(ctx, "kluis", name, armkeyvault.VaultCreateOrUpdateParameters{Location: to.Ptr("local"), Properties: properties}, nil)
	if err == nil {
		_, err = poller.PollUntilDone(ctx, nil)
	}
	return err
}

// furnish makes a vault with a key that the platform may use, a workspace, and
// files in it, small and large.
func (s *site) furnish(ctx context.Context, t testing.TB) {
	t.Helper()
	s.makeVault(ctx, t)
	key, err := s.keys.CreateKey(ctx, keyName, azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA), KeySize: to.Ptr[int32](2048)}, nil)
	must(t, err)
	s.identifier = strings.TrimSuffix(string(*key.Key.KID), "/"+key.Key.KID.Version())
	s.grant(ctx, t)

	s.container = "crash-lab"
	var made struct {
		ID string `json:"id"`
	}
	must(t, s.engineer.Fabric.Call(ctx, "POST", "/workspaces", map[string]string{"displayName": s.container, "description": "a test"}, &made))
	s.workspace = made.ID
	must(t, s.engineer.Fabric.Call(ctx, "POST", "/workspaces/"+s.workspace+"/items", map[string]any{
		"displayName": "notes", "type": "Notebook",
		"definition": map[string]any{"parts": []map[string]string{{"path": "a.py", "payload": "cHJpbnQoKQ==", "payloadType": "InlineBase64"}}},
	}, &made))
	must(t, s.engineer.Fabric.Call(ctx, "POST", "/workspaces/"+s.workspace+"/items", map[string]string{"displayName": "lake", "type": "Lakehouse"}, &made))
	s.lakehouse = made.ID
	s.files = map[string][]byte{}
	r := rand.New(rand.NewPCG(1, 2))
	for i, size := range []int{0, 1, 100, 5_000, 16_384, 40_000, 300_000, 2_500_000} {
		b := make([]byte, size)
		for j := range b {
			b[j] = byte(r.Uint32())
		}
		s.put(ctx, t, fmt.Sprintf("lake.Lakehouse/Files/folder %d/sub/file-%d.bin", i%3, i), b)
	}
}

// encryptionUser is Azure's role Key Vault Crypto Service Encryption User.
const encryptionUser = "e147488a-f6f5-4113-8e2d-b22465e65bf6"

// grantID is the id of the platform's role assignment on the key.
const grantID = "11111111-2222-4333-8444-555555555555"

func (s *site) keyScope() string { return s.vaultID + "/keys/" + keyName }

func (s *site) grant(ctx context.Context, t testing.TB) {
	t.Helper()
	s.grantTo(ctx, t, grantID, s.clients.Target.Platform.ObjectID)
}

func (s *site) grantTo(ctx context.Context, t testing.TB, id, principal string) {
	t.Helper()
	must(t, s.grantAt(ctx, s.keyScope(), id, principal))
}

// grantAt lets a principal wrap and unwrap with the keys of a scope.
func (s *site) grantAt(ctx context.Context, scope, id, principal string) error {
	target := s.clients.Target
	_, err := s.officer.Roles.Create(ctx, scope, id, armauthorization.RoleAssignmentCreateParameters{
		Properties: &armauthorization.RoleAssignmentProperties{
			RoleDefinitionID: to.Ptr("/subscriptions/" + target.SubscriptionID + "/providers/Microsoft.Authorization/roleDefinitions/" + encryptionUser),
			PrincipalID:      &principal,
			PrincipalType:    to.Ptr(armauthorization.PrincipalTypeServicePrincipal),
		},
	}, nil)
	return err
}

// underKey starts a server with what furnish makes, its workspace under the customer's
// key.
func underKey(ctx context.Context, t testing.TB, env ...string) (*site, *process) {
	t.Helper()
	s := &site{data: filepath.Join(t.TempDir(), "data"), port: devtest.FreePort(t)}
	p := start(t, s.data, s.port, env...)
	s.connect(t)
	s.furnish(ctx, t)
	must(t, s.assign(ctx))
	s.await(ctx, t, "Active")
	return s, p
}

func (s *site) put(ctx context.Context, t testing.TB, path string, data []byte) {
	t.Helper()
	_, err := s.engineer.Blobs.UploadBuffer(ctx, s.container, path, data, nil)
	must(t, err)
	s.files[path] = data
}

func (s *site) get(ctx context.Context, path string) ([]byte, error) {
	r, err := s.engineer.Blobs.DownloadStream(ctx, s.container, path, nil)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	return io.ReadAll(r.Body)
}

// readBack compares every file with what was put there.
func (s *site) readBack(ctx context.Context) error {
	for path, want := range s.files {
		got, err := s.get(ctx, path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%s came back different: %d bytes, want %d", path, len(got), len(want))
		}
	}
	fsys, err := s.engineer.FileSystem(s.container)
	if err != nil {
		return err
	}
	n := 0
	pager := fsys.NewListPathsPager(true, nil)
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, p := range page.Paths {
			if p.IsDirectory == nil || !*p.IsDirectory {
				n++
			}
		}
	}
	if n != len(s.files) {
		return fmt.Errorf("%d files are listed, want %d", n, len(s.files))
	}
	return nil
}

func (s *site) assign(ctx context.Context) error {
	return s.engineer.Fabric.Call(ctx, "POST", "/workspaces/"+s.workspace+"/encryption/assign", map[string]string{"keyIdentifier": s.identifier}, nil)
}

func (s *site) reset(ctx context.Context) error {
	return s.engineer.Fabric.Call(ctx, "POST", "/workspaces/"+s.workspace+"/encryption/reset", nil, nil)
}

// await waits until the workspace's status is one of those given.
func (s *site) await(ctx context.Context, t testing.TB, statuses ...string) sdk.EncryptionStatus {
	t.Helper()
	var st sdk.EncryptionStatus
	eventually(ctx, t, 30*time.Second, func() error {
		var err error
		st, err = s.engineer.Fabric.Encryption(ctx, s.workspace)
		if err == nil && !slices.Contains(statuses, st.Detail.Status) {
			err = fmt.Errorf("status %s, want one of %v: items %+v, serving %+v", st.Detail.Status, statuses, st.Items, st.Serving)
		}
		return err
	})
	return st
}

// fsck checks the site's data directory, which nobody serves, and returns what it says.
func (s *site) fsck(t testing.TB) string {
	t.Helper()
	out, err := kluis(t, s.data, "fsck", "--data", s.data).CombinedOutput()
	if err != nil {
		t.Fatalf("fsck: %v\n%s", err, out)
	}
	return string(out)
}

// kluis is the binary over a data directory, wherever its extents lie.
func kluis(t testing.TB, data string, args ...string) *exec.Cmd {
	t.Helper()
	objects, err := servertest.Variables(data)
	must(t, err)
	c := exec.Command(build(t), args...)
	c.Env = append(objects, os.Environ()...)
	return c
}

// copy copies the data directory to a new place, as it is.
func (s *site) copy(t testing.TB) *site {
	t.Helper()
	c := *s
	c.data = filepath.Join(t.TempDir(), "data")
	must(t, os.CopyFS(c.data, os.DirFS(s.data)))
	for _, party := range []string{"login", "vault", "platform", "governance"} {
		must(t, enginetest.Copied(filepath.Join(s.data, party), filepath.Join(c.data, party)))
	}
	must(t, servertest.Copied(t.Context(), s.data, c.data))
	must(t, filepath.WalkDir(c.data, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Stat(filepath.Join(s.data, strings.TrimPrefix(p, c.data)))
		if err != nil {
			return err
		}
		return os.Chmod(p, info.Mode().Perm())
	}))
	return &c
}

// eventually tries until it succeeds or time is up.
func eventually(ctx context.Context, t testing.TB, limit time.Duration, try func() error) {
	t.Helper()
	must(t, within(ctx, limit, try))
}

// within tries until it succeeds, or returns why it did not when time is up.
func within(ctx context.Context, limit time.Duration, try func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := try()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("it did not happen within %s: %w", limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refusedByKey reports whether err is what storage clients get once the customer's
// key is refused.
func refusedByKey(err error) bool {
	var re *azcore.ResponseError
	return errors.As(err, &re) && re.StatusCode == http.StatusForbidden && strings.HasPrefix(re.ErrorCode, "KeyVault")
}
