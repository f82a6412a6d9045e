package turn_test

import (
	"context"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kluis-io/kluis/internal/turn"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/enginetest"
)

const span = 300 * time.Millisecond

func open(t *testing.T, path string) turn.Store {
	t.Helper()
	db, err := enginetest.Open(t.Context(), path, store.Schema{"audit"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db.Turns()
}

// One process works at a time; when it ends another goes on at once, and when it dies,
// once its turn is over.
func TestTurns(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "db"))
	var at, most, runs atomic.Int64
	started := make(chan int, 10)
	work := func(i int) func(context.Context) {
		return func(ctx context.Context) {
			most.Store(max(most.Load(), at.Add(1)))
			runs.Add(1)
			started <- i
			<-ctx.Done()
			at.Add(-1)
		}
	}
	stops := make([]context.CancelFunc, 3)
	for i := range stops {
		var ctx context.Context
		ctx, stops[i] = context.WithCancel(t.Context())
		defer stops[i]()
		go turn.New(s, span).While(ctx, "sweep", work(i))
	}
	first := <-started
	time.Sleep(2 * span)
	stops[first]()
	second := <-started
	if second == first || most.Load() != 1 {
		t.Errorf("%d works after %d, and %d did at once", second, first, most.Load())
	}
	stops[second]()
	third := <-started
	stops[third]()
	if runs.Load() != 3 {
		t.Errorf("%d turns", runs.Load())
	}
}

// Who loses the turn, as one that stood still does, has its work ended.
func TestLostTurn(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "db"))
	ended, began := make(chan struct{}), make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go turn.New(s, span).While(ctx, "sweep", func(ctx context.Context) {
		close(began)
		<-ctx.Done()
		close(ended)
		<-t.Context().Done()
	})
	<-began
	if err := s.Update(t.Context(), func(tx turn.Tx) error {
		now, err := tx.Now()
		if err != nil {
			return err
		}
		return tx.PutTurn("sweep", turn.Turn{Owner: "another", Until: now.Add(time.Hour)})
	}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the work goes on")
	}
}

// How far the work has come outlives its turn, and who has lost that cannot set it back.
func TestPosition(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "db"))
	one, two := turn.New(s, span), turn.New(s, span)
	one.While(t.Context(), "export", func(ctx context.Context) {
		if err := one.Position("export").Store(ctx, 7); err != nil {
			t.Error(err)
		}
	})
	two.While(t.Context(), "export", func(ctx context.Context) {
		if done, err := two.Position("export").Load(ctx); done != 7 || err != nil {
			t.Errorf("%d, %v", done, err)
		}
		if err := one.Position("export").Store(ctx, 3); err == nil {
			t.Error("set back by who has lost its turn")
		}
		if err := two.Position("export").Store(ctx, 9); err != nil {
			t.Error(err)
		}
	})
	if done, err := one.Position("export").Load(t.Context()); done != 9 || err != nil {
		t.Errorf("%d, %v", done, err)
	}
}

// Work that returns is done, and others may do it again.
func TestDone(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "db"))
	for range 2 {
		turn.New(s, span).While(t.Context(), "sweep", func(context.Context) {})
	}
}
