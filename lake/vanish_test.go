package lake_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/kluis-io/kluis/lake"
)

// vanishing objects are gone at once when they are deleted, for who has them open too,
// as in a store elsewhere.
type vanishing struct{ lake.Objects }

func (v vanishing) Open(ctx context.Context, id string) (lake.Object, error) {
	o, err := v.Objects.Open(ctx, id)
	return vanishingObject{o, v.Objects, id}, err
}

type vanishingObject struct {
	lake.Object
	from lake.Objects
	id   string
}

func (o vanishingObject) ReadAt(p []byte, off int64) (int, error) {
	there, err := o.from.Open(context.Background(), o.id)
	if err != nil {
		return 0, err
	}
	defer there.Close()
	return o.Object.ReadAt(p, off)
}

// A download goes on while re-encryption takes what it reads away.
func TestReencryptUnderReader(t *testing.T) {
	defer lake.SetMaxExtent(600_000)()
	p := start(t, t.TempDir())
	p.objects.Objects = vanishing{p.objects.Objects}
	body := random(1_500_000, 1)
	p.put(t, "Files/x", body)
	c, err := p.Open(t.Context(), p.caller, at("Files/x"), lake.Conditions{}, lake.Range{})
	must(t, err)
	defer c.Close()
	var got bytes.Buffer
	_, err = c.WriteTo(writerFunc(func(b []byte) (int, error) {
		if got.Len() == 0 {
			p.assign(t)
		}
		return got.Write(b)
	}))
	must(t, err)
	if !bytes.Equal(got.Bytes(), body) {
		t.Errorf("%d bytes came back as %d others", len(body), got.Len())
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
