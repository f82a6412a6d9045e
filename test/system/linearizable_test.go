package system_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/anishathalye/porcupine"

	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/effort"
)

// An access is one call on a register: an object, whether the key is enabled, whether a
// principal has a role on it.
type access struct {
	register string
	write    bool
	value    uint64
}

// registers is Porcupine's model of all that is written and read: each register for
// itself, 0 at first.
var registers = porcupine.Model{
	Partition: func(all []porcupine.Operation) [][]porcupine.Operation {
		by := map[string][]porcupine.Operation{}
		for _, o := range all {
			r := o.Input.(access).register
			by[r] = append(by[r], o)
		}
		var parts [][]porcupine.Operation
		for _, p := range by {
			parts = append(parts, p)
		}
		return parts
	},
	Init: func() any { return uint64(0) },
	Step: func(state, input, output any) (bool, any) {
		in := input.(access)
		if in.write {
			return true, in.value
		}
		return output.(uint64) == state.(uint64), state
	},
	DescribeOperation: func(input, output any) string {
		in := input.(access)
		if in.write {
			return fmt.Sprintf("%s = %d", in.register, in.value)
		}
		return fmt.Sprintf("%s is %v", in.register, output)
	},
}

// A recorder keeps a history of concurrent calls.
type recorder struct {
	mu      sync.Mutex
	began   time.Time
	history []porcupine.Operation
	unknown int
}

// forever is when a call returned of which nobody knows whether, or when, it took effect.
const forever = math.MaxInt64

// did notes a call.
func (r *recorder) did(client int, call time.Time, in access, out uint64, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := porcupine.Operation{ClientId: client, Input: in, Output: out, Call: int64(call.Sub(r.began)), Return: int64(time.Since(r.began))}
	if !known {
		o.Return = forever
		r.unknown++
	}
	r.history = append(r.history, o)
}

// TestLinearizable has clients write and read objects, switch a key and take away and give
// roles, at the vault and in the workspace, use the key, all at once, while the server is killed over and over. There is an
// order of all calls, each between its beginning and its end, that explains all answers:
// of the vault's, which are to be final at once, as of the objects'. What the platform
// makes of the vault's answers may come later, and no later than the bound.
func TestLinearizable(t *testing.T) {
	t.Parallel()
	if !slow && effort.Of(0, 1, 1) == 0 {
		t.Skip("SKIPPED: it takes the better part of a minute; it runs in CI (CI=true)")
	}
	lasting := time.Duration(effort.Of(10, 30, 60)) * time.Second
	s := &site{data: filepath.Join(t.TempDir(), "data"), port: devtest.FreePort(t)}
	p := start(t, s.data, s.port)
	s.connect(t)
	kills := 0
	linearizable(t, s, []*site{s}, lasting, bound, func(pause func(time.Duration), forget func()) {
		pause(8 * time.Second)
		p.kill()
		kills++
		forget() // a start takes its time, and then the platform asks anew
		p = start(t, s.data, s.port)
	})
	effort.Proof(t, "kills", kills)
	p.stop(t)
	s.fsck(t)
}

// linearizable has clients, each at one of the sites that all show the same installation, do
// what TestLinearizable says while fault is called over and over. Content may be read for
// as long as slack after the key was switched off.
func linearizable(t *testing.T, s *site, sites []*site, lasting, slack time.Duration, fault func(pause func(time.Duration), forget func())) {
	ctx := t.Context()
	s.furnish(ctx, t)
	must(t, s.assign(ctx))
	s.await(ctx, t, "Active")
	var blobs []*azblob.Client
	var officers, guests []*azkeys.Client
	for _, s := range sites {
		once := s.clients.Options() // a call that is sent twice would be two
		once.Retry = policy.RetryOptions{MaxRetries: -1}
		engineer, err := s.clients.Credential("engineer")
		must(t, err)
		c, err := azblob.NewClient(s.clients.Target.Endpoints["blob"]+"/", engineer, &azblob.ClientOptions{ClientOptions: once})
		must(t, err)
		blobs = append(blobs, c)
		keysOf := func(principal string) *azkeys.Client {
			cred, err := s.clients.Credential(principal)
			must(t, err)
			c, err := azkeys.NewClient(s.clients.Target.VaultURI("custody"), cred, &azkeys.ClientOptions{ClientOptions: once})
			must(t, err)
			return c
		}
		officers, guests = append(officers, keysOf("custodian")), append(guests, keysOf("auditor"))
	}
	const guestGrant = "22222222-2222-4222-8222-222222222222"
	auditor := s.clients.Target.Principals["auditor"].ObjectID
	version, err := s.keys.GetKey(ctx, keyName, "", nil)
	must(t, err)
	id := version.Key.KID.Version()
	_, err = s.keys.CreateKey(ctx, "other", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA)}, nil)
	must(t, err)

	r := &recorder{began: time.Now()}
	var mu sync.Mutex
	disabled := time.Time{} // since when the key is known to be off; zero if it may be on
	late := time.Duration(0)
	var read, written, refusals int
	running, stop := context.WithTimeout(ctx, lasting)
	defer stop()
	var all sync.WaitGroup
	pause := func(most time.Duration) { // until the next call
		select {
		case <-time.After(rand.N(most)):
		case <-running.Done():
		}
	}

	// Objects: small ones, which lie in rows, and one that does not.
	for client := range 6 {
		blobs := blobs[client%len(sites)]
		all.Go(func() {
			for n := uint64(1); running.Err() == nil; n++ {
				object := rand.IntN(4)
				path := fmt.Sprintf("lake.Lakehouse/Files/r/%d", object)
				in := access{register: path}
				call, cancel := context.WithTimeout(ctx, 10*time.Second)
				mu.Lock()
				off := disabled
				mu.Unlock()
				at := time.Now()
				if client < 3 { // at three replicas, if there are three
					in.write, in.value = true, uint64(client+1)<<32|n
					content := bytes.Repeat(fmt.Appendf(nil, "%020d", in.value), []int{1, 50, 2000, 250_000}[object])
					_, err := blobs.UploadBuffer(call, s.container, path, content, &azblob.UploadBufferOptions{BlockSize: 8 << 20})
					if !nothing(err) {
						r.did(client, at, in, 0, err == nil)
					}
					mu.Lock()
					written += one(err == nil)
					refusals += one(refusedByKey(err))
					mu.Unlock()
				} else {
					out, err := registerOf(call, blobs, s.container, path)
					mu.Lock()
					if err == nil && !off.IsZero() && disabled.Equal(off) {
						late = max(late, at.Sub(off))
					}
					read += one(err == nil)
					refusals += one(refusedByKey(err))
					mu.Unlock()
					switch {
					case errors.Is(err, errTorn):
						t.Error(err)
					case err == nil:
						r.did(client, at, in, out, true)
					}
				}
				if call.Err() != nil { // what nobody knows the end of is hard to explain: not too much of it
					pause(2 * time.Second)
				}
				cancel()
				pause(10 * time.Millisecond)
			}
		})
	}

	// Whether the key is on: switched by one, asked and used by others.
	set := func(client int, on bool) {
		mu.Lock()
		disabled = time.Time{}
		mu.Unlock()
		at := time.Now()
		call, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		_, err := officers[rand.N(len(sites))].UpdateKey(call, keyName, id, azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: &on}}, nil)
		if !nothing(err) {
			r.did(client, at, access{"the key is off", true, uint64(one(!on))}, 0, err == nil)
		}
		mu.Lock()
		defer mu.Unlock()
		if err == nil && !on {
			disabled = time.Now()
		}
	}
	all.Go(func() {
		for running.Err() == nil {
			pause(3 * time.Second)
			set(10, false)
			pause(7 * time.Second)
			set(10, true)
		}
	})
	// They unwrap: of a disabled key, as of Azure's, the public half still wraps.
	use := func(client int, keys *azkeys.Client, key, register string) {
		wrapped, err := s.keys.WrapKey(ctx, key, "", azkeys.KeyOperationParameters{Algorithm: to.Ptr(azkeys.EncryptionAlgorithmRSAOAEP256), Value: make([]byte, 32)}, nil)
		must(t, err)
		all.Go(func() {
			for running.Err() == nil {
				at := time.Now()
				call, cancel := context.WithTimeout(ctx, 10*time.Second)
				_, err := keys.UnwrapKey(call, key, wrapped.KID.Version(), azkeys.KeyOperationParameters{Algorithm: to.Ptr(azkeys.EncryptionAlgorithmRSAOAEP256), Value: wrapped.Result}, nil)
				cancel()
				if err == nil || forbidden(err) {
					r.did(client, at, access{register: register}, uint64(one(err != nil)), true)
				}
				pause(10 * time.Millisecond)
			}
		})
	}
	for client := range max(2, len(sites)) {
		use(11+client, officers[client%len(sites)], keyName, "the key is off")
	}

	// Whether somebody has a role: 1 without it, which is how it begins. The register
	// begins with 0, so that the role is given first.
	grant := func(client int, on bool) {
		at := time.Now()
		call, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		scope := s.vaultID + "/keys/other"
		var err error
		if on {
			err = s.grantAt(call, scope, guestGrant, auditor)
		} else {
			_, err = s.officer.Roles.Delete(call, scope, guestGrant, nil)
		}
		if !nothing(err) || errors.Is(err, syscall.ECONNREFUSED) { // that may have been the answer to a repetition
			r.did(client, at, access{"the guest has no role", true, uint64(one(!on))}, 0, err == nil)
		}
	}
	must(t, s.grantAt(ctx, s.vaultID+"/keys/other", guestGrant, auditor))
	all.Go(func() {
		for running.Err() == nil {
			pause(time.Second)
			grant(20, false)
			pause(time.Second)
			grant(20, true)
		}
	})
	for client := range max(2, len(sites)) {
		use(21+client, guests[client%len(sites)], "other", "the guest has no role")
	}

	r.workspaceRights(ctx, t, s, sites, 30, running, pause, &all)

	for running.Err() == nil {
		fault(pause, func() {
			mu.Lock()
			defer mu.Unlock()
			disabled = time.Time{}
		})
	}
	all.Wait()
	result, info := porcupine.CheckOperationsVerbose(registers, r.history, 5*time.Minute)
	if result != porcupine.Ok {
		page := filepath.Join(t.ArtifactDir(), "linearizable.html")
		t.Errorf("the history of %d calls is %s; see %s", len(r.history), result, page)
		if err := porcupine.VisualizePath(registers, info, page); err != nil {
			t.Error(err)
		}
	}
	if late > slack {
		t.Errorf("a read that began %s after the key was disabled got its content", late)
	}
	if read == 0 || written == 0 || refusals == 0 {
		t.Errorf("%d read, %d written, %d refused: it proves little", read, written, refusals)
	}
	asked, denied := r.asked(noWorkspaceRole)
	effort.Proof(t, "histories", 1, "calls", len(r.history), "of-which-nobody-knows-the-end", r.unknown, "reads", read, "writes", written,
		"refused-for-the-key", refusals, "asked-for-a-right-in-a-workspace", asked, "of-which-denied", denied, "contradictions", 0)
}

func one(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

var errTorn = errors.New("an object is made of two writes")

// registerOf reads an object: the number of which it is full, 0 if it is not there.
func registerOf(ctx context.Context, c *azblob.Client, container, path string) (uint64, error) {
	var got bytes.Buffer
	res, err := c.DownloadStream(ctx, container, path, nil)
	if err == nil {
		_, err = got.ReadFrom(res.Body)
		res.Body.Close()
	}
	var re *azcore.ResponseError
	if errors.As(err, &re) && re.StatusCode == http.StatusNotFound {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	b := got.Bytes()
	if len(b) < 20 || !bytes.Equal(b, bytes.Repeat(b[:20], len(b)/20)) {
		return 0, errTorn
	}
	return strconv.ParseUint(string(b[:20]), 10, 64)
}

// nothing reports whether a write certainly had no effect: it was refused, or nobody was
// there to take it.
func nothing(err error) bool {
	var re *azcore.ResponseError
	return errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &re) && re.StatusCode >= 400 && re.StatusCode < 500 || refusedByKey(err)
}

func forbidden(err error) bool {
	var re *azcore.ResponseError
	return errors.As(err, &re) && re.StatusCode == http.StatusForbidden
}
