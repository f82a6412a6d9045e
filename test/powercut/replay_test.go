package powercut_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/kluis-io/kluis/test/powercut"
)

func blocks(marks ...byte) (b []byte) {
	for _, m := range marks {
		b = append(b, bytes.Repeat([]byte{m}, powercut.Block)...)
	}
	return b
}

// A cut leaves all that was flushed on the device that it was flushed on, and of the rest
// every part that a disk may keep, but nothing else.
func TestReplay(t *testing.T) {
	const b = powercut.Block
	before := [][]byte{blocks('a', 'a', 'a', 0), blocks('a')}
	events := []powercut.Event{
		{Device: 0, Offset: 0, Data: blocks('b')},
		{Device: 1, Offset: 0, Data: blocks('b')},
		{Device: 0, Flush: true},
		{Device: 0, Offset: b, Data: blocks('c', 'c')},
		{Device: 0, Offset: 0, Data: blocks('d')},
	}
	dir := t.TempDir()
	files := []string{filepath.Join(dir, "0"), filepath.Join(dir, "1")}
	dice := rand.New(rand.NewPCG(1, 2))
	for n, want := range [][]map[string]bool{
		0: {{"aaa.": true}, {"a": true}},
		1: {{"aaa.": true, "baa.": true}, {"a": true}},
		2: {{"aaa.": true, "baa.": true}, {"a": true, "b": true}},
		3: {{"baa.": true}, {"a": true, "b": true}},
		4: {{"baa.": true, "bcc.": true, "bca.": true, "bac.": true}, {"a": true, "b": true}},
		5: {{"baa.": true, "bcc.": true, "bca.": true, "bac.": true, "daa.": true, "dcc.": true, "dca.": true, "dac.": true}, {"a": true, "b": true}},
	} {
		r := powercut.NewReplay(before, events)
		r.To(n)
		for range 400 {
			if _, err := r.Cut(dice, files...); err != nil {
				t.Fatal(err)
			}
			for i, name := range files {
				image, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				var got []byte
				for at := 0; at < len(image); at += b {
					if !bytes.Equal(image[at:at+b], blocks(image[at])) {
						t.Fatalf("after %d events, device %d holds a part of a block", n, i)
					}
					got = append(got, max(image[at], '.'))
				}
				if _, ok := want[i][string(got)]; !ok {
					t.Fatalf("after %d events, device %d holds %q", n, i, got)
				}
				want[i][string(got)] = false
			}
		}
		for i := range want {
			for state, missing := range want[i] {
				if missing {
					t.Errorf("after %d events, no cut left device %d with %q", n, i, state)
				}
			}
		}
	}
}
