package powercut

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
)

// Block is what a disk writes whole or not at all, in bytes: the block of the file system.
const Block = 4096

// A Replay is what devices hold at a moment of a record, from its beginning onwards.
type Replay struct {
	events  []Event
	at      int
	durable [][]byte  // what has been flushed
	used    [][]bool  // which blocks of it hold anything
	cached  [][]Event // writes since, of each device
}

// NewReplay is a record's beginning: images, all of which is flushed.
func NewReplay(images [][]byte, events []Event) *Replay {
	r := &Replay{events: events, cached: make([][]Event, len(images))}
	var zeros [Block]byte
	for _, image := range images {
		used := make([]bool, len(image)/Block)
		for i := range used {
			used[i] = !bytes.Equal(image[i*Block:][:Block], zeros[:])
		}
		r.durable, r.used = append(r.durable, bytes.Clone(image)), append(r.used, used)
	}
	return r
}

// To goes on to the moment at which n events had reached the devices.
func (r *Replay) To(n int) {
	for ; r.at < n; r.at++ {
		e := r.events[r.at]
		if !e.Flush {
			r.cached[e.Device] = append(r.cached[e.Device], e)
			continue
		}
		for _, w := range r.cached[e.Device] {
			copy(r.durable[e.Device][w.Offset:], w.Data)
			for i := w.Offset / Block; i*Block < w.Offset+int64(len(w.Data)); i++ {
				r.used[e.Device][i] = true
			}
		}
		r.cached[e.Device] = nil
	}
}

// Cut writes what a cut leaves of each device to the file of that place: all that was
// flushed, and of what was not as much as the dice say: nothing, all, a part from the
// beginning, all but one write, or any; and any blocks of a write. It says how many blocks
// are lost.
func (r *Replay) Cut(dice *rand.Rand, files ...string) (lost int, err error) {
	for i, name := range files {
		n, err := r.cut(dice, i, name)
		if err != nil {
			return 0, err
		}
		lost += n
	}
	return lost, nil
}

func (r *Replay) cut(dice *rand.Rand, device int, name string) (lost int, err error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	image, used := r.durable[device], r.used[device]
	if err := f.Truncate(int64(len(image))); err != nil {
		return 0, err
	}
	for i := 0; i < len(used); i++ {
		from := i
		for i < len(used) && used[i] {
			i++
		}
		if _, err := f.WriteAt(image[from*Block:i*Block], int64(from*Block)); err != nil {
			return 0, err
		}
	}
	keep := survivors(dice, len(r.cached[device]))
	for n, w := range r.cached[device] {
		kept, torn := keep(n), len(w.Data) > Block && dice.IntN(4) == 0
		for at := 0; at < len(w.Data); at += Block {
			if !kept || torn && dice.IntN(2) == 0 {
				lost++
				continue
			}
			if _, err := f.WriteAt(w.Data[at:min(at+Block, len(w.Data))], w.Offset+int64(at)); err != nil {
				return 0, err
			}
		}
	}
	return lost, nil
}

// survivors decides which of n writes a cut leaves.
func survivors(dice *rand.Rand, n int) func(int) bool {
	switch some := dice.IntN(max(n, 1)); dice.IntN(8) {
	case 0, 1:
		return func(int) bool { return false }
	case 2:
		return func(int) bool { return true }
	case 3:
		return func(i int) bool { return i < some }
	case 4:
		return func(i int) bool { return i != some }
	}
	odds := dice.Float64()
	return func(int) bool { return dice.Float64() < odds }
}
