package lake

import (
	"time"

	"github.com/kluis-io/kluis/encryption"
)

// A Kind says what a path leads to.
type Kind uint8

// The kinds.
const (
	File Kind = iota + 1
	Folder
)

// ContentHeaders are the headers that a client stores with a file and gets back
// with it. They are sealed.
type ContentHeaders struct {
	Type         string // Content-Type
	Encoding     string
	Language     string
	Disposition  string
	CacheControl string
	MD5          []byte // as the client gave it, 16 bytes or none; of the whole content
}

// Properties describe a file or folder.
type Properties struct {
	Name     string // full path below the container, as the caller addresses it
	Kind     Kind
	Size     int64  // bytes; 0 for a folder
	ETag     string // opaque and quoted: "\"0x8DC…\""
	Created  time.Time
	Modified time.Time
	Headers  ContentHeaders
	Metadata map[string]string
	CRC64    *uint64 // CRC-64/NVME of the content, if it is known
	Append   bool    // an append blob
	Blocks   int     // committed blocks
	Copy     *Copied // what the content is a copy of, if it is one
	Lease    Lease
	Access   Access    // of what lies in a storage account
	Tier     Tier      // "" if it was not said
	Tiered   time.Time // when it was
	Context  string    // encryption context

	Container encryption.ScopeID
	Item      encryption.ItemID // "" for the container itself
	KeyID     encryption.KeyID  // the DEK that seals the file; "" for a managed folder that holds nothing yet
}

// ContainerProperties describe a container.
type ContainerProperties struct {
	Container
	ETag     string
	Metadata map[string]string // of a storage account's only
	Lease    Lease
}

// Conditions are a request's conditional headers. The zero value holds always.
// IfMatch and IfNoneMatch are lists of quoted ETags, or "*".
type Conditions struct {
	IfMatch           string
	IfNoneMatch       string
	IfModifiedSince   time.Time
	IfUnmodifiedSince time.Time
	Lease             string // id of the lease under which the request comes, "" for none

	// Of a write: when the access tier was set.
	TierIfModifiedSince, TierIfUnmodifiedSince time.Time
}

// A Range is a run of bytes. The zero Range is the whole content.
type Range struct {
	Offset int64
	Count  int64 // 0: to the end; what lies beyond the end is left out
	Suffix int64 // if not 0, the last bytes instead, as many as there are
}

// Hashes are what a client says of a body. What is nil is not checked.
type Hashes struct {
	MD5   []byte  // 16 bytes
	CRC64 *uint64 // CRC-64/NVME, as x-ms-content-crc64
}

// StageOptions go with content that is not to be seen yet.
type StageOptions struct {
	Hashes Hashes
	Lease  string // as in [Conditions]
}

// PutOptions go with content.
type PutOptions struct {
	Headers    ContentHeaders
	Metadata   map[string]string
	Conditions Conditions
	Hashes     Hashes        // of the body; [Lake.CommitBlocks] and [Lake.Create] have none
	Access     *AccessChange // of what is made
	Tier       Tier
	Context    string        // encryption context, at most 1,024 bytes
	Lease      *LeaseRequest // [Lake.Create] acquires it for what it makes
	Append     bool          // [Lake.Create] makes an append blob
	Copied     *Copied       // what the content is a copy of; [Lake.Copy] sets it
}

// A BlockSource says where a block list's entry is looked for.
type BlockSource uint8

// The sources.
const (
	Latest BlockSource = iota // uncommitted, else committed
	Committed
	Uncommitted
)

// A BlockRef is one entry of a block list to commit.
type BlockRef struct {
	ID     string // as the client wrote it, base64
	Source BlockSource
}

// A Block is one entry of a block list.
type Block struct {
	ID   string
	Size int64
}

// A BlockList is what is known of a file's blocks. Properties are zero if nothing
// was committed yet.
type BlockList struct {
	Properties  Properties
	Committed   []Block
	Uncommitted []Block
}

// FlushOptions go with [Lake.Flush].
type FlushOptions struct {
	Headers         *ContentHeaders // nil: as they are
	Conditions      Conditions
	KeepUncommitted bool // keep what was appended behind the position
}

// RenameOptions go with [Lake.Rename].
type RenameOptions struct {
	Conditions       Conditions // on the destination; IfNoneMatch "*" forbids replacing
	SourceConditions Conditions
}

// ListOptions select what a listing shows, and how much of it.
type ListOptions struct {
	// Prefix restricts the listing to paths below the container that begin with
	// it, compared byte by byte. It may end inside a name. If it is given, the
	// listed Path must be the container's (Blob); "" lists the Path (DFS).
	Prefix string
	// Delimited gives one level, and folders as Prefixes (Blob with delimiter
	// "/"). Else Recursive decides whether what lies deeper is shown; folders
	// are Entries.
	Delimited bool
	Recursive bool

	Max             int    // most entries and prefixes of one page; 5,000 if 0 or more than that
	Continuation    string // of the page before
	StartFrom       string // first path to show, inclusive, below the container
	EndBefore       string // first path no longer to show; "" for none
	IncludeMetadata bool

	// IncludeUncommitted shows paths that have uncommitted blocks and nothing else,
	// as empty files; of a container's listing only.
	IncludeUncommitted bool
}

// A Listing is one page, in byte order of the full path.
type Listing struct {
	Entries      []Properties
	Prefixes     []string // with "/" at the end
	Continuation string   // "" on the last page
}
