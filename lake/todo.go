package lake

import (
	"context"
	"io"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/identity"
)

type Store interface{}

type Lake struct{}

// New returns a Lake.
func New(c Config) *Lake { panic("not yet") }

// ListContainers returns the containers that the caller may read, in order of their names.
func (l *Lake) ListContainers(ctx context.Context, caller identity.Caller, prefix string) ([]ContainerProperties, error) {
	panic("not yet")
}

// Container returns a container's properties.
func (l *Lake) Container(ctx context.Context, caller identity.Caller, name string) (ContainerProperties, error) {
	panic("not yet")
}

// Stat describes a file or folder.
func (l *Lake) Stat(ctx context.Context, caller identity.Caller, p Path, c Conditions) (Properties, error) {
	panic("not yet")
}

// Content is a file, or a range of it, open for reading. WriteTo it, then Close.
type Content struct {
	Properties Properties
	Offset     int64 // of the first byte
	Length     int64 // bytes that WriteTo writes if it succeeds
}

// WriteTo writes the content. If it fails, what was written is not the whole, and the connection must be broken off.
func (c *Content) WriteTo(w io.Writer) (int64, error) { panic("not yet") }

// Close releases what the content holds.
func (c *Content) Close() error { panic("not yet") }

// Open opens a file for reading.
func (l *Lake) Open(ctx context.Context, caller identity.Caller, p Path, c Conditions, r Range) (*Content, error) {
	panic("not yet")
}

// Put makes or replaces a file. size is -1 if it is not known.
func (l *Lake) Put(ctx context.Context, caller identity.Caller, p Path, body io.Reader, size int64, o PutOptions) (Properties, error) {
	panic("not yet")
}

// StageBlock stores a block for a later [Lake.CommitBlocks], and returns its CRC-64/NVME.
func (l *Lake) StageBlock(ctx context.Context, caller identity.Caller, p Path, blockID string, body io.Reader, size int64, h Hashes) (crc64 uint64, err error) {
	panic("not yet")
}

// CommitBlocks makes or replaces a file from blocks.
func (l *Lake) CommitBlocks(ctx context.Context, caller identity.Caller, p Path, blocks []BlockRef, o PutOptions) (Properties, error) {
	panic("not yet")
}

// Blocks lists a file's blocks.
func (l *Lake) Blocks(ctx context.Context, caller identity.Caller, p Path) (BlockList, error) {
	panic("not yet")
}

// Create makes an empty file, replacing what was there, or a folder. An existing folder stays as it is.
func (l *Lake) Create(ctx context.Context, caller identity.Caller, p Path, k Kind, o PutOptions) (Properties, error) {
	panic("not yet")
}

// Append stores bytes at a position of an existing file; [Lake.Flush] shows them. It returns their CRC-64/NVME.
func (l *Lake) Append(ctx context.Context, caller identity.Caller, p Path, position int64, body io.Reader, size int64, h Hashes) (crc64 uint64, err error) {
	panic("not yet")
}

// Flush makes what was appended up to position part of the file.
func (l *Lake) Flush(ctx context.Context, caller identity.Caller, p Path, position int64, o FlushOptions) (Properties, error) {
	panic("not yet")
}

// List lists a container or folder.
func (l *Lake) List(ctx context.Context, caller identity.Caller, p Path, o ListOptions) (Listing, error) {
	panic("not yet")
}

// Delete removes a file or folder.
func (l *Lake) Delete(ctx context.Context, caller identity.Caller, p Path, recursive bool, c Conditions) error {
	panic("not yet")
}

// Rename moves a file or folder within its item.
func (l *Lake) Rename(ctx context.Context, caller identity.Caller, from, to Path, o RenameOptions) (Properties, error) {
	panic("not yet")
}

// SetMetadata replaces a file's or folder's user metadata.
func (l *Lake) SetMetadata(ctx context.Context, caller identity.Caller, p Path, metadata map[string]string, c Conditions) (Properties, error) {
	panic("not yet")
}

// SetHeaders replaces a file's content headers.
func (l *Lake) SetHeaders(ctx context.Context, caller identity.Caller, p Path, h ContentHeaders, c Conditions) (Properties, error) {
	panic("not yet")
}

// Reencrypt implements [encryption.Content].
func (l *Lake) Reencrypt(ctx context.Context, job *encryption.Job) error { panic("not yet") }

// Sweep removes what nothing needs any more.
func (l *Lake) Sweep(ctx context.Context) error { panic("not yet") }
