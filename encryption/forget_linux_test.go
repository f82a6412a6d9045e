package encryption_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kluis-io/kluis/encryption"

	"github.com/kluis-io/kluis/internal/effort"
)

// search counts how often each key, whose bytes are given inverted, lies in this
// process's writable memory. Its own buffer lies outside the heap and is left out.
func search(t *testing.T, veiled [][]byte) (hits []int) {
	t.Helper()
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	const step, overlap = 1 << 20, 32
	buf, err := unix.Mmap(-1, 0, step, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(buf)
	hits = make([]int, len(veiled))
	lines := bufio.NewScanner(bytes.NewReader(maps))
	for lines.Scan() {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); err != nil || !strings.HasPrefix(mode, "rw") {
			continue
		}
		for at := from; at < to; at += step - overlap {
			n, _ := mem.ReadAt(buf[:min(step, to-at)], at)
			for i := range buf[:n] {
				buf[i] = ^buf[i]
			}
			for i, k := range veiled {
				hits[i] += bytes.Count(buf[:n], k)
			}
			clear(buf)
		}
	}
	return hits
}

// What is in memory of a scope's keys while they are leased is not there any more once
// the vault has said no: neither the keys nor a copy of them that the runtime or a
// library left behind. AES key schedules, which are no key's bytes, are not looked for.
func TestKeysLeaveMemory(t *testing.T) {
	rounds := effort.Of(3, 10, 100)
	var open, left, keys int
	for range rounds {
		bubble(t, func(t *testing.T, w *world) {
			w.vault.WithoutFeed()
			w.settled("a")
			for i := range 10 {
				w.must(w.write(ws, lake, fmt.Sprint(i)))
				w.must(w.read(ws, fmt.Sprint(i)))
			}
			scopeKeys, itemKeys := w.ring.Veiled(ws)
			if len(scopeKeys) == 0 || len(itemKeys) == 0 {
				t.Fatal("no key is open")
			}
			all := append(scopeKeys, itemKeys...)
			keys += len(all)
			for i, n := range search(t, all) {
				if n == 0 {
					t.Errorf("key %d is open, and the search does not find it", i)
				}
				open += n
			}
			w.vault.SetEnabled("a", false)
			w.serving(encryption.Revoked, time.Minute)
			runtime.GC()
			runtime.GC()
			for i, n := range search(t, all) {
				left += n
				if n > 0 {
					t.Errorf("key %d of %d is in memory %d times after its vault has said no", i, len(all), n)
				}
			}
		})
	}
	effort.Proof(t, "revocations", rounds, "keys", keys, "found-while-open", open, "found-after-the-refusal", left)
}
