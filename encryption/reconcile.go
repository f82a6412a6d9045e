package encryption

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/failpoint"
)

var (
	scopeBeforeDone = failpoint.New("encryption/scope/before-done")
	scopeAfterDone  = failpoint.New("encryption/scope/after-done")
)

const reconcileEvery = time.Second

// Wake makes the state machine look at once for what is to be done.
func (s *Scopes) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// workers is how many scopes are worked on at once.
const workers = 4

// working are the scopes that this process works on.
type working struct {
	sync.WaitGroup
	mu     sync.Mutex
	scopes map[ScopeID]bool
}

// start reports whether the caller is to work on the scope: nobody else does.
func (w *working) start(id ScopeID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.scopes[id] {
		return false
	}
	if w.scopes == nil {
		w.scopes = map[ScopeID]bool{}
	}
	w.scopes[id] = true
	return true
}

func (w *working) end(id ScopeID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.scopes, id)
}

// TakeOver takes the items over that a worker which has died still holds the lease
// of, instead of waiting until that ends. It is for a process that has the
// database to itself, before [Scopes.Run].
func (s *Scopes) TakeOver(ctx context.Context) error {
	return s.ring.store.Update(ctx, func(tx Tx) error { return tx.ReleaseItems() })
}

// Run brings items under their scopes' keys, until ctx ends. It looks at the
// rows, not at who changed them: whatever a crash left half done is found and
// finished.
func (s *Scopes) Run(ctx context.Context) {
	defer s.working.Wait()
	free := make(chan struct{}, workers)
	t := time.NewTicker(reconcileEvery)
	defer t.Stop()
	for ctx.Err() == nil {
		if err := s.reconcile(ctx, free); err != nil && ctx.Err() == nil {
			s.ring.log.ErrorContext(ctx, "bringing items under their keys", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-t.C:
		}
	}
}

// reconcile starts what is due, a scope at a time, on as many workers as are free.
func (s *Scopes) reconcile(ctx context.Context, free chan struct{}) error {
	scopes, err := s.changing(ctx)
	if err != nil {
		return err
	}
	for _, sc := range scopes {
		if sc.Serving == Revoked || !s.working.start(sc.ID) {
			continue
		}
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			s.working.end(sc.ID)
			return ctx.Err()
		}
		s.working.Go(func() {
			defer func() { <-free }()
			defer s.working.end(sc.ID)
			ctx := audit.WithJob(ctx)
			for did := true; did && ctx.Err() == nil; {
				var err error
				if did, err = s.reconcileScope(ctx, sc.ID); err != nil {
					s.report(ctx, sc.ID, err)
					return
				}
			}
		})
	}
	return nil
}

// scopesAtOnce is how many scopes one look takes.
const scopesAtOnce = 100

// changing returns some of the scopes that something is to be done about: from a random
// one on, so that processes meet seldom, and so that scopes which wait for their key
// keep no others waiting.
func (s *Scopes) changing(ctx context.Context) (scopes []Scope, err error) {
	err = s.ring.store.View(ctx, func(tx Tx) error {
		from := ScopeID(uuid.NewString())
		if scopes, err = tx.Changing(from, scopesAtOnce); err != nil || len(scopes) == scopesAtOnce {
			return err
		}
		first, err := tx.Changing("", scopesAtOnce-len(scopes))
		for _, sc := range first {
			if sc.ID <= from {
				scopes = append(scopes, sc)
			}
		}
		return err
	})
	return scopes, err
}

// report logs why a scope could not be worked on, unless that is no fault.
func (s *Scopes) report(ctx context.Context, id ScopeID, err error) {
	r := fault.ReasonOf(err)
	if ctx.Err() != nil || r == fault.EncryptionChanged || r == fault.WorkspaceNotFound || waitsForKey(r) {
		return
	}
	s.ring.log.ErrorContext(ctx, "bringing a workspace's items under its keys", "workspace", string(id), "error", err)
}

// waitsForKey reports whether a reason means that the scope has no access just now.
func waitsForKey(r fault.Reason) bool {
	return r.RefusedByVault() || r == fault.KEKUnreachable || r == fault.KEKIntegrity || r == fault.Unavailable
}

// reconcileScope does what is due in one scope, several items at once, and reports
// whether it did anything.
func (s *Scopes) reconcileScope(ctx context.Context, id ScopeID) (did bool, err error) {
	var p pool
	defer p.Wait()
	for ctx.Err() == nil && p.failed() == nil {
		p.forget()
		behind, next, g, err := s.due(ctx, id)
		if err != nil {
			return false, err
		}
		if behind == 0 {
			if g.State == Enabling || g.State == Disabling {
				return false, s.finish(ctx, id)
			}
			return did, nil
		}
		began := false
		for _, i := range next {
			if ctx.Err() != nil || p.failed() != nil {
				break
			}
			if !p.take(i.ID) {
				continue
			}
			u, err := s.ring.Use(ctx, id)
			if err != nil {
				return false, err // no item has failed: the scope waits
			}
			began, did = true, true
			p.start(i.ID, func() error { return s.work(ctx, u, i, g) })
		}
		if !began { // whatever is due is being worked on
			p.Wait()
			return did, p.failed()
		}
	}
	p.Wait()
	return did, errors.Join(ctx.Err(), p.failed())
}

// due reads what is to be done in a scope: how many items are behind the sealing
// generation, and the next of them.
func (s *Scopes) due(ctx context.Context, id ScopeID) (behind int, next []Item, g Generation, err error) {
	err = s.ring.store.View(ctx, func(tx Tx) error {
		v, err := readView(tx, id)
		if err != nil {
			return err
		}
		if g, err = v.sealing(); err != nil {
			return err
		}
		now, err := tx.Now()
		if err != nil {
			return err
		}
		behind, _, next, err = tx.ItemsBehind(id, g.Number, now)
		return err
	})
	return behind, next, g, err
}

// finish ends a change of key once every item is done: the older scope keys are
// forgotten, and the generation's state says so.
func (s *Scopes) finish(ctx context.Context, id ScopeID) error {
	if err := scopeBeforeDone.Hit(); err != nil {
		return err
	}
	k := s.ring
	if err := k.witnessedNow(ctx, id); err != nil {
		return err
	}
	var next view
	err := k.store.Update(ctx, func(tx Tx) error {
		v, err := readView(tx, id)
		if err != nil {
			return err
		}
		g, err := v.sealing()
		if err != nil {
			return err
		}
		behind, _, _, err := tx.ItemsBehind(id, g.Number, time.Time{})
		if err != nil || behind > 0 || g.State != Enabling && g.State != Disabling {
			return err
		}
		left, err := tx.KeysBehind(id, g.Number)
		if err != nil {
			return err
		}
		if left > 0 {
			return fault.New(fault.Integrity, fmt.Sprintf("%d keys lie under an older key of the workspace, though every item is done.", left)).
				About(string(id))
		}
		sh, err := openGeneration(k.root, v.scope.Tenant, g)
		if err != nil {
			return err
		}
		defer sh.clear()
		for _, l := range v.links {
			if err := tx.DeleteLink(id, l.Generation); err != nil {
				return err
			}
		}
		sc := v.scope
		sc.Epoch++
		g.Epoch = sc.Epoch
		g.State = map[State]State{Enabling: Active, Disabling: Disabled}[g.State]
		sealGeneration(k.root, sc.Tenant, &g, sh)
		if err := tx.PutGeneration(g); err != nil {
			return err
		}
		if err := tx.UpdateScope(sc, v.scope.Epoch); err != nil {
			return err
		}
		e := k.entry(ctx, "CompleteWorkspaceEncryption", sc)
		e.Detail = map[string]string{"state": string(g.State), "generation": number(g.Number)}
		next = view{scope: sc, generations: []Generation{g}}
		return tx.AppendAudit(e)
	})
	if err != nil || next.scope.ID == "" {
		return err
	}
	if err := k.bearWitness(ctx, next.scope); err != nil {
		return err
	}
	k.settle(next)
	return scopeAfterDone.Hit()
}

// settle tells the entry in use that only the sealing generation is left.
func (k *Keyring) settle(v view) {
	s := k.slot(v.scope.ID)
	s.saw(v.scope)
	e := s.entry.Load()
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	g := v.generations[0]
	if e.sealing.Number != g.Number || e.row.Epoch > v.scope.Epoch {
		return
	}
	e.row, e.sealing = v.scope, g
	for n, key := range e.scopeKeys {
		if n != g.Number {
			key.Clear()
			delete(e.scopeKeys, n)
		}
	}
}
