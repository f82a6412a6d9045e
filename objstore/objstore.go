// Package objstore is the place of the object stores: where extents lie that are
// too large for a row. The interface that they implement is its caller's,
// [lake.Objects]; this page is what it means.
//
// An object is an immutable byte string under an id of 32 hexadecimal digits
// that was never used before. What is in it is sealed: a store sees ciphertext
// only, and is trusted with nothing but to keep it.
//
// An implementation promises:
//
//   - an object is invisible until Commit has returned nil, and then whole and
//     durable: it survives a power cut;
//   - a Commit that fails may have happened; nothing else of a failed or aborted
//     write is ever visible;
//   - Open fails with [fault.NotFound] exactly if the object is not there, and
//     with another reason if the store cannot tell;
//   - an open object stays readable after its deletion, where the store can do
//     that; else reading it fails, and never yields other bytes;
//   - Delete of what is not there succeeds; so does deleting twice;
//   - List sees every object that was committed before it began and not deleted;
//   - all methods may be called at the same time, and heed their context.
//
// It does not promise order between objects, and has no transactions: who writes
// an object records it first and sweeps after a crash.
//
// # Records
//
// Beside objects, in places of their own, stores keep records: short named texts, such
// as the rollback witness's and the published audit logs. Whoever needs them declares an
// interface of these methods. All promise:
//
//   - Read gives nil for a record that is not there, and an error if the store cannot
//     tell;
//   - Create makes a record that never changes, whole and durable, and succeeds if the
//     very same is there;
//   - Replace decides and writes in one step: nobody else's write comes between the
//     record that decide was given and the one that takes its place. It may ask decide
//     again, also with what decide has returned itself;
//   - List and Delete are as for objects.
//
// [objstore/local] is a folder of files; [objstore/s3] and [objstore/azblob] are
// stores elsewhere, and [objstore/remote] what they have in common;
// [objstore/faulty] injects failures, [objstore/objtest] is the suite for all, and
// objstore/servertest starts real servers for it.
//
// [lake.Objects]: https://pkg.go.dev/github.com/kluis-io/kluis/lake#Objects
// [fault.NotFound]: https://pkg.go.dev/github.com/kluis-io/kluis/fault#NotFound
// [objstore/local]: https://pkg.go.dev/github.com/kluis-io/kluis/objstore/local
// [objstore/remote]: https://pkg.go.dev/github.com/kluis-io/kluis/objstore/remote
// [objstore/s3]: https://pkg.go.dev/github.com/kluis-io/kluis/objstore/s3
// [objstore/azblob]: https://pkg.go.dev/github.com/kluis-io/kluis/objstore/azblob
// [objstore/faulty]: https://pkg.go.dev/github.com/kluis-io/kluis/objstore/faulty
// [objstore/objtest]: https://pkg.go.dev/github.com/kluis-io/kluis/objstore/objtest
package objstore
