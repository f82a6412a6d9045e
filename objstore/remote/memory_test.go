package remote_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kluis-io/kluis/objstore/remote"
)

// A memory is a store in memory that counts what it is asked and can be unsteady.
type memory struct {
	mu      sync.Mutex
	objects map[string]stored
	parts   int // of uploads under way

	calls   []string
	sent    int64 // bytes of bodies that were received
	largest int   // body that was put
	decide  func(call string, n int) verdict

	heedless bool // it takes every Swap, whatever its condition
}

type stored struct {
	mark string
	body []byte
	made time.Time
}

type verdict int

const (
	works verdict = iota
	fails         // it is not done, and fails
	lost          // it is done, the answer is lost, and its repetition finds that
	cut           // the body breaks off in the middle
)

var errInjected = remote.Failed(errors.New("injected"))

func newMemory() *memory { return &memory{objects: map[string]stored{}} }

func (m *memory) call(name string) verdict {
	m.calls = append(m.calls, name)
	if m.decide == nil {
		return works
	}
	return m.decide(name, len(m.calls))
}

// asked returns the calls since the last time.
func (m *memory) asked() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.calls
	m.calls, m.sent, m.largest = nil, 0, 0
	return out
}

func (m *memory) create(call, name, mark string, body []byte) error {
	v := m.call(call)
	if v == fails {
		return errInjected
	}
	if _, ok := m.objects[name]; ok {
		return remote.ErrExists
	}
	m.objects[name] = stored{mark, slices.Clone(body), time.Now()}
	if v == lost {
		return remote.ErrExists
	}
	return nil
}

func (m *memory) Put(ctx context.Context, name, mark string, body []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	m.largest = max(m.largest, len(body))
	return m.create("put", name, mark, body)
}

func (m *memory) Begin(_ context.Context, name, mark string) (remote.Upload, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.call("begin") != works {
		return nil, errInjected
	}
	return &memoryUpload{m: m, name: name, mark: mark}, nil
}

type memoryUpload struct {
	m          *memory
	name, mark string
	body       []byte
	parts      int
}

func (u *memoryUpload) Part(_ context.Context, body []byte) error {
	u.m.mu.Lock()
	defer u.m.mu.Unlock()
	if u.m.call("part") != works {
		return errInjected
	}
	u.m.largest = max(u.m.largest, len(body))
	u.body = append(u.body, body...)
	u.parts++
	u.m.parts++
	return nil
}

func (u *memoryUpload) Finish(context.Context) error {
	u.m.mu.Lock()
	defer u.m.mu.Unlock()
	err := u.m.create("finish", u.name, u.mark, u.body)
	if u.m.objects[u.name].mark == u.mark {
		u.m.parts -= u.parts
	}
	return err
}

func (u *memoryUpload) Cancel(ctx context.Context) error {
	u.m.mu.Lock()
	defer u.m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	u.m.call("cancel")
	u.m.parts -= u.parts
	return nil
}

func (m *memory) Mark(_ context.Context, name string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.call("mark") != works {
		return "", errInjected
	}
	o, ok := m.objects[name]
	if !ok {
		return "", remote.Missing(errors.New("no mark"))
	}
	return o.mark, nil
}

func (m *memory) Get(ctx context.Context, name string, off, n int64) (io.ReadCloser, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	v := m.call("get")
	if v == fails {
		return nil, 0, errInjected
	}
	o, ok := m.objects[name]
	if !ok {
		return nil, 0, remote.Missing(errors.New("not there"))
	}
	size := int64(len(o.body))
	body := o.body[off:min(off+n, size)]
	m.sent += int64(len(body))
	if v == cut {
		return io.NopCloser(bytes.NewReader(body[:len(body)/2])), size, nil
	}
	return io.NopCloser(bytes.NewReader(body)), size, nil
}

func (m *memory) Fetch(ctx context.Context, name string) (io.ReadCloser, int64, string, error) {
	body, size, err := m.Get(ctx, name, 0, 1<<30)
	if err != nil {
		return nil, 0, "", err
	}
	text, err := io.ReadAll(body)
	return io.NopCloser(bytes.NewReader(text)), size, tagOf(stored{body: text}), err
}

func tagOf(o stored) string { return fmt.Sprintf("%x", sha256.Sum256(o.body)) }

func (m *memory) Swap(ctx context.Context, name, tag string, body []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	v := m.call("swap")
	if v == fails {
		return errInjected
	}
	if o, ok := m.objects[name]; !m.heedless && (ok != (tag != "") || ok && tagOf(o) != tag) {
		return remote.ErrExists
	}
	m.objects[name] = stored{"", slices.Clone(body), time.Now()}
	if v == lost {
		return remote.ErrExists
	}
	return nil
}

func (m *memory) Delete(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.call("delete")
	delete(m.objects, name)
	return nil
}

func (m *memory) List(_ context.Context, prefix string, each func(string, time.Time) error) error {
	m.mu.Lock()
	m.call("list")
	found := map[string]time.Time{}
	for name, o := range m.objects {
		if strings.HasPrefix(name, prefix) {
			found[name] = o.made
		}
	}
	m.mu.Unlock()
	for name, made := range found {
		if err := each(name, made); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) Reap(context.Context, string, time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.call("reap")
	return nil
}
