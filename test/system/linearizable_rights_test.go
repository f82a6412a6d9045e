package system_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/kluis-io/kluis/internal/sdk"
)

const noWorkspaceRole = "the guest has no role in the workspace"

// asked is how often a register of 0 and 1 was read, and how often it was 1.
func (r *recorder) asked(register string) (n, ones int) {
	for _, o := range r.history {
		if in := o.Input.(access); in.register == register && !in.write {
			n++
			ones += int(o.Output.(uint64))
		}
	}
	return n, ones
}

// workspaceRights has one client give a guest a role in the workspace and take it away, while
// the guest, at each of the sites, asks for the workspace: a register of 1 while he has none.
// Its clients' numbers begin with first.
func (r *recorder) workspaceRights(ctx context.Context, t *testing.T, s *site, sites []*site, first int, running context.Context, pause func(time.Duration), all *sync.WaitGroup) {
	t.Helper()
	const register = noWorkspaceRole
	guest := s.clients.Target.Principals["custodian"].ObjectID
	at, assignments := "/workspaces/"+s.workspace, "/workspaces/"+s.workspace+"/roleAssignments"
	set := func(on bool) {
		call, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		id := ""
		if !on {
			var err error
			if id, err = s.roleOf(call, guest); err != nil || id == "" {
				return
			}
		}
		began := time.Now()
		var err error
		if on {
			err = s.engineer.Fabric.Call(call, "POST", assignments, map[string]any{"principal": map[string]string{"id": guest, "type": "ServicePrincipal"}, "role": "Viewer"}, nil)
		} else {
			err = s.engineer.Fabric.Call(call, "DELETE", assignments+"/"+id, nil, nil)
		}
		var refused *sdk.FabricError
		if !nothing(err) && !(errors.As(err, &refused) && refused.Status < 500) {
			r.did(first, began, access{register, true, uint64(one(!on))}, 0, err == nil)
		}
	}
	set(true)
	all.Go(func() {
		for running.Err() == nil {
			pause(time.Second)
			set(false)
			pause(time.Second)
			set(true)
		}
	})
	for i := range max(2, len(sites)) {
		e, err := sites[i%len(sites)].clients.EngineerAs("custodian")
		must(t, err)
		all.Go(func() {
			for running.Err() == nil {
				call, cancel := context.WithTimeout(ctx, 10*time.Second)
				began := time.Now()
				err := e.Fabric.Call(call, "GET", at, nil, nil)
				cancel()
				var refused *sdk.FabricError
				if err == nil || errors.As(err, &refused) && refused.Code == "InsufficientPrivileges" {
					r.did(first+1+i, began, access{register: register}, uint64(one(err != nil)), true)
				}
				pause(10 * time.Millisecond)
			}
		})
	}
}

// roleOf is the id of a principal's role assignment in the workspace, "" if it has none.
func (s *site) roleOf(ctx context.Context, principal string) (string, error) {
	all, err := s.engineer.Fabric.List(ctx, "/workspaces/"+s.workspace+"/roleAssignments")
	for _, a := range all {
		if p, _ := a["principal"].(map[string]any); p["id"] == principal {
			return a["id"].(string), nil
		}
	}
	return "", err
}
