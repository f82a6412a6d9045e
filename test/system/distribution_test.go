package system_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/effort"
	"github.com/kluis-io/kluis/internal/sdk"
)

// A customer has a workspace under a key of its own.
type customer struct {
	*site
	n                    int
	key, id, name, grant string
	last                 atomic.Int64 // when plaintext last came, Unix nanoseconds
}

const customerFile = "lake.Lakehouse/Files/small.bin"

// found makes the customer's key and workspace.
func (c *customer) found(ctx context.Context) error {
	made, err := c.keys.CreateKey(ctx, c.key, azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA), KeySize: to.Ptr[int32](2048)}, nil)
	if err != nil {
		return err
	}
	if err := c.give(ctx); err != nil {
		return err
	}
	var workspace struct {
		ID string `json:"id"`
	}
	if err := c.engineer.Fabric.Call(ctx, "POST", "/workspaces", map[string]string{"displayName": c.name}, &workspace); err != nil {
		return err
	}
	c.id = workspace.ID
	if err := c.engineer.Fabric.Call(ctx, "POST", "/workspaces/"+c.id+"/items", map[string]string{"displayName": "lake", "type": "Lakehouse"}, nil); err != nil {
		return err
	}
	if _, err := c.engineer.Blobs.UploadBuffer(ctx, c.name, customerFile, []byte(c.name), nil); err != nil {
		return err
	}
	kid := string(*made.Key.KID)
	return c.engineer.Fabric.Call(ctx, "POST", "/workspaces/"+c.id+"/encryption/assign", map[string]string{"keyIdentifier": kid[:len(kid)-33]}, nil)
}

func (c *customer) give(ctx context.Context) error {
	return c.grantAt(ctx, c.vaultID+"/keys/"+c.key, c.grant, c.clients.Target.Platform.ObjectID)
}

func (c *customer) take(ctx context.Context) error {
	_, err := c.officer.Roles.Delete(ctx, c.vaultID+"/keys/"+c.key, c.grant, nil)
	return err
}

func (c *customer) enable(on bool) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := c.keys.UpdateKey(ctx, c.key, "", azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: &on}}, nil)
		return err
	}
}

// read reads the customer's file over and over.
func (c *customer) read(ctx context.Context) {
	for ctx.Err() == nil {
		if c.once(ctx) != nil {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

func (c *customer) once(ctx context.Context) error {
	return c.stream(ctx, c.engineer, customerFile, []byte(c.name))
}

// stream reads a file to its end, and notes when plaintext came.
func (c *customer) stream(ctx context.Context, by *sdk.Engineer, file string, want []byte) error {
	r, err := by.Blobs.DownloadStream(ctx, c.name, file, nil)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	buf := make([]byte, 32<<10)
	for rest := want; ; {
		n, err := r.Body.Read(buf)
		if n > 0 {
			now := time.Now().UnixNano()
			for was := c.last.Load(); now > was && !c.last.CompareAndSwap(was, now); was = c.last.Load() {
			}
			if !bytes.HasPrefix(rest, buf[:n]) {
				return fmt.Errorf("%s came back different, %d bytes before its end", file, len(rest))
			}
			rest = rest[n:]
		}
		switch {
		case err == io.EOF && len(rest) > 0:
			return errEndedEarly
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// TestRevocationDistribution has 50 readers read in 20 workspaces, each under a key of its
// own, and revokes one after the other in turns: by a switch of the key, by its deletion,
// by the role that goes. Nobody whose key was not taken is ever refused.
func TestRevocationDistribution(t *testing.T) {
	if !slow && effort.Of(0, 1, 1) == 0 {
		t.Skip("SKIPPED: fifty readers load the machine for a minute and more; it runs in CI (CI=true)")
	}
	const customers, readers = 20, 50
	rounds := effort.Of(1, 1, 9)
	ctx := t.Context()
	s := &site{data: filepath.Join(t.TempDir(), "data"), port: devtest.FreePort(t)}
	p := start(t, s.data, s.port)
	s.connect(t)
	s.makeVault(ctx, t)
	var all []*customer
	for n := range customers {
		c := &customer{site: s, n: n, key: fmt.Sprint("key", n), name: fmt.Sprint("customer-", n), grant: fmt.Sprintf("11111111-2222-4333-8444-%012d", n)}
		must(t, c.found(ctx))
		all = append(all, c)
	}
	for _, c := range all {
		eventually(ctx, t, time.Minute, func() error {
			st, err := s.engineer.Fabric.Encryption(ctx, c.id)
			if err == nil && st.Detail.Status != "Active" {
				err = errNotDone(st.Detail.Status)
			}
			return err
		})
	}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	var running sync.WaitGroup
	for i := range readers {
		running.Go(func() { all[i%customers].read(reading) })
	}
	ways := map[string]func(*customer) (revoke, restore func(context.Context) error){
		"disabled": func(c *customer) (_, _ func(context.Context) error) { return c.enable(false), c.enable(true) },
		"deleted": func(c *customer) (_, _ func(context.Context) error) {
			return func(ctx context.Context) error { _, err := c.keys.DeleteKey(ctx, c.key, nil); return err },
				func(ctx context.Context) error { _, err := c.keys.RecoverDeletedKey(ctx, c.key, nil); return err }
		},
		"role-removed": func(c *customer) (_, _ func(context.Context) error) { return c.take, c.give },
	}
	dark, light := map[string][]time.Duration{}, map[string][]time.Duration{}
	n := 0
	for range rounds {
		for _, way := range slices.Sorted(maps.Keys(ways)) {
			for i, c := range all {
				n++
				revoke, restore := ways[way](c)
				must(t, revoke(ctx))
				revoked := time.Now()
				eventually(ctx, t, 30*time.Second, func() error {
					if err := c.once(ctx); !refusedByKey(err) {
						return fmt.Errorf("a read is answered with %v", err)
					}
					return nil
				})
				if neighbour := all[(i+1)%customers]; neighbour.once(ctx) != nil {
					t.Errorf("%s: customer %d was refused for the sake of another's key: %v", way, neighbour.n, neighbour.once(ctx))
				}
				took := max(0, time.Unix(0, c.last.Load()).Sub(revoked))
				dark[way] = append(dark[way], took)
				if took > bound {
					t.Errorf("%s: plaintext came %s after the custodian's call had returned, bound %s", way, took, bound)
				}
				must(t, restore(ctx))
				restored := time.Now()
				eventually(ctx, t, 30*time.Second, func() error { return c.once(ctx) })
				light[way] = append(light[way], time.Since(restored))
			}
		}
	}
	// All at once: the vault's network lets nobody in.
	network := func(action armkeyvault.NetworkRuleAction) {
		must(t, s.putVault(ctx, "custody", func(v *armkeyvault.VaultProperties) {
			v.NetworkACLs = &armkeyvault.NetworkRuleSet{DefaultAction: &action, Bypass: to.Ptr(armkeyvault.NetworkRuleBypassOptionsNone)}
		}))
	}
	network(armkeyvault.NetworkRuleActionDeny)
	revoked := time.Now()
	for _, c := range all {
		eventually(ctx, t, 30*time.Second, func() error {
			if err := c.once(ctx); !refusedByKey(err) {
				return fmt.Errorf("a read is answered with %v", err)
			}
			return nil
		})
		dark["network"] = append(dark["network"], max(0, time.Unix(0, c.last.Load()).Sub(revoked)))
	}
	if worst := slices.Max(dark["network"]); worst > bound {
		t.Errorf("network: plaintext came %s after the vault was closed, bound %s", worst, bound)
	}
	network(armkeyvault.NetworkRuleActionAllow)
	for _, c := range all {
		eventually(ctx, t, time.Minute, func() error { return c.once(ctx) })
	}
	stop()
	running.Wait()
	for _, way := range slices.Sorted(maps.Keys(dark)) {
		report(t, way+" last byte", dark[way])
	}
	for _, way := range slices.Sorted(maps.Keys(light)) {
		report(t, way+" back after", light[way])
	}
	effort.Proof(t, "revocations", n+customers, "later-than-5-s", 0)
	p.stop(t)
	s.fsck(t)
}
