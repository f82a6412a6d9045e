// Package envelope owns the sealed format: how kluis turns bytes at rest into
// ciphertext under a 32-byte key, and back.
//
// A sealed message is C2SP chunked-encryption v1 (c2sp.org/chunked-encryption)
// with HKDF-Expand-SHA-512 and AES-256-GCM, the instantiation that its author
// calls Cobblestone-256: a random salt, a commitment to key and context, then
// chunks of 16 KiB of which any can be opened alone. Use [Seal] and [Open] for
// what fits in memory, [NewWriter] and [NewReader] for streams, and
// [NewReaderAt] for ranges. Names in listings are small and many, and have a
// cheaper form of their own: see [Folder].
//
// # What the format promises
//
// Who can rewrite the stored bytes cannot read them, change one, shorten or
// lengthen a message, reorder or mix its chunks, or put it in another message's
// place, without the next read failing with [fault.Integrity]; no plaintext
// leaves before its own chunk has verified. A stream's end is known only at its
// end: a [Reader] may hand out verified chunks of a message that proves
// truncated later, so whoever forwards them must end a failed stream as broken
// and never cleanly.
//
// He can delete a message, or put back one that was sealed earlier under the
// same key and context. The format does not detect that; its callers do, by
// giving every message an id of its own, which stands in its context and in a
// sealed row that names it.
//
// # What is left to others
//
// Which key seals what, where keys are kept and for how long, and what a context
// says: see docs/format.md. Key bytes that this package derives are overwritten
// after use, but Go's AES keeps its key schedule until it is collected.
//
// # Compatibility
//
// What any release has sealed, every later one opens. The exported names of this
// package stay, so that data can be recovered by other programs; the vectors in
// testdata serve those that are not written in Go.
package envelope
