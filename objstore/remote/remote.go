// Package remote keeps objects in a store that is reached over a network. It has
// what such stores share; what they differ in, their protocol, is a [Client]:
// packages objstore/s3 and objstore/azblob have one each.
//
// # Names
//
// The object with an id is the store's object of that name below a prefix. Beside
// them lies one that says whose they are, see [Store.Claim]: what lies under a
// prefix belongs to one installation, whose sweeper removes what its rows do not
// name.
//
// # Writing
//
// An object of up to [PartSize] bytes is sent as a whole when it is committed, a
// larger one in parts of that size as it arrives: a writer holds one part in
// memory. Both are created only if there is no object of the name, where the store
// can do that, and carry a random mark. When the answer to a commit is lost and its
// repetition finds an object there, the mark tells that it is the writer's own.
//
// # Reading
//
// Opening an object reads its first [HeadSize] bytes, which tells its size: one
// request, and the only one for an object that is not longer. A read elsewhere
// asks for what it needs and no more; a read that goes on where the last one ended
// asks for twice as much as that one. So a range costs one request more than the
// opening, a whole object of 64 MiB ten, and at most half of what is sent for is
// not used. A download that breaks off is taken up where it did.
package remote

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

const (
	// PartSize is the length of an upload's parts, in bytes. S3 takes parts from
	// 5 MiB on.
	PartSize = 8 << 20
	// HeadSize is how many bytes opening an object reads.
	HeadSize = 64 << 10
)

// ErrExists is a [Client]'s error for an object that was not written because there
// is one already, or one of another tag.
var ErrExists = errors.New("there is an object of that name")

// A Client speaks a store's protocol. Its methods repeat a request that failed and
// may succeed another time, so often and for so long as is sensible, and fail with
// an error of [Failed], [fault.NotFound] or ErrExists.
type Client interface {
	// Put creates an object with a mark, whole, or fails with ErrExists.
	Put(ctx context.Context, name, mark string, body []byte) error
	// Begin begins an object that is sent in parts.
	Begin(ctx context.Context, name, mark string) (Upload, error)
	// Mark returns an object's mark.
	Mark(ctx context.Context, name string) (string, error)
	// Get returns n bytes of an object from off, or fewer at its end, and the object's
	// size. An empty object has no bytes and is no error.
	Get(ctx context.Context, name string, off, n int64) (body io.ReadCloser, size int64, err error)
	// Delete removes an object, if it is there.
	Delete(ctx context.Context, name string) error
	// List calls each with every object below the prefix until it returns an error.
	List(ctx context.Context, prefix string, each func(name string, modified time.Time) error) error
	// Fetch returns an object whole, with its size and its tag, which no other content
	// of that name has.
	Fetch(ctx context.Context, name string) (body io.ReadCloser, size int64, tag string, err error)
	// Swap writes a whole object in the place of the one with the tag, or of none if the
	// tag is empty, or fails with ErrExists if there is another or none.
	Swap(ctx context.Context, name, tag string, body []byte) error
	// Reap removes the parts of uploads below the prefix that began before the time and
	// were never finished.
	Reap(ctx context.Context, prefix string, before time.Time) error
}

// An Upload is an object that is being sent in parts, in order.
type Upload interface {
	Part(ctx context.Context, body []byte) error
	// Finish makes the object visible, or fails with ErrExists.
	Finish(ctx context.Context) error
	// Cancel removes the parts, as far as the store can do that.
	Cancel(ctx context.Context) error
}

// Failed is the error of a store that did not do what it was asked for: it did not
// answer, or refused for a reason that is the operator's to mend. The cause is for
// the log.
func Failed(err error) error {
	return fault.Wrap(fault.Unavailable, err, "The object store cannot be written or read.").WithMend("Try again.")
}

// Refused is the error of a store that answered and said that kluis may not, or that
// there is no such place.
func Refused(err error) error {
	return fault.Wrap(fault.Unavailable, err, "The object store refuses what kluis asks of it.").
		WithMend("The operator checks the store's place, its policy and kluis's credentials there.")
}

// Missing is the error for an object that is not there.
func Missing(err error) error {
	return fault.Wrap(fault.NotFound, err, "There is no such object.")
}

// A Store keeps objects below a prefix. It implements [lake.Objects].
type Store struct {
	client Client
	prefix string // "" or one that ends with a slash
}

var _ lake.Objects = (*Store)(nil)

// New returns the store of what lies below the prefix, which may be empty.
func New(c Client, prefix string) *Store {
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		prefix += "/"
	}
	return &Store{client: c, prefix: prefix}
}

// ownerName is the name, below the prefix, of the object that says whose the others
// are.
const ownerName = "kluis-owner"

// Claim makes sure that what lies below the prefix belongs to the owner, an
// installation's id, and takes it if it is nobody's.
func (s *Store) Claim(ctx context.Context, owner string) error {
	name := s.prefix + ownerName
	for again := false; ; again = true {
		found, err := s.read(ctx, name)
		switch {
		case err == nil && found == owner:
			return nil
		case err == nil:
			return fault.New(fault.Conflict, "What lies under this place of the object store belongs to another installation, "+found+".").
				WithMend("Give each installation a bucket or a prefix of its own: what one's rows do not name, its sweeper removes.")
		case !errors.Is(err, fault.NotFound) || again:
			return err
		}
		if err := s.client.Put(ctx, name, newMark(), []byte(owner)); err != nil && !errors.Is(err, ErrExists) {
			return err
		}
	}
}

// read returns what is in a short object.
func (s *Store) read(ctx context.Context, name string) (string, error) {
	body, _, err := s.client.Get(ctx, name, 0, HeadSize)
	if err != nil {
		return "", err
	}
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, HeadSize))
	if err != nil {
		return "", Failed(err)
	}
	return string(text), nil
}

const idLength = 32

func isID(id string) bool {
	return len(id) == idLength && strings.Trim(id, "0123456789abcdef") == ""
}

// name returns the name of an object. Ids come from ourselves; the check keeps a
// damaged database from naming something else.
func (s *Store) name(id string) (string, error) {
	if !isID(id) {
		return "", fault.New(fault.Integrity, "This is no object's id.").About(id)
	}
	return s.prefix + id, nil
}

// Delete implements [lake.Objects].
func (s *Store) Delete(ctx context.Context, id string) error {
	name, err := s.name(id)
	if err != nil {
		return err
	}
	return s.client.Delete(ctx, name)
}

// staleUpload is the age at which an upload's parts are nobody's any more.
const staleUpload = 24 * time.Hour

// List implements [lake.Objects]. It also removes the parts of uploads that were
// begun more than a day ago and never finished.
func (s *Store) List(ctx context.Context, each func(id string, modified time.Time) error) error {
	if err := s.client.Reap(ctx, s.prefix, time.Now().Add(-staleUpload)); err != nil {
		return err
	}
	return s.client.List(ctx, s.prefix, func(name string, modified time.Time) error {
		id := strings.TrimPrefix(name, s.prefix)
		if !isID(id) {
			return nil // not ours
		}
		return each(id, modified)
	})
}
