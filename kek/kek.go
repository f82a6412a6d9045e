// Package kek is the right to use somebody's key encryption key: a key that this
// process never holds, in a vault that it does not run.
//
// It owns the typed key identifiers, the one client towards any vault that
// speaks the Azure Key Vault keys protocol (a kluis vault, Azure Key Vault,
// Managed HSM: the same code path), the table of what a vault's answer means, and
// key leases. It promises three things.
//
//   - A key identifier is hostile input. No request leaves for a host outside the
//     [Policy], no connection is made to an address that the host may not have, no
//     redirect is followed, no reply above 64 KiB is read, and no token is asked
//     for another audience or tenant than our own configuration and the scope name.
//   - "The vault said no" and "the vault did not answer" are never confused. The
//     first is the kill switch: [fault.KEKRefused], [fault.KEKVaultGone] and
//     [fault.KEKTokenRefused], and the caller must drop the key at once. The
//     second, [fault.KEKUnreachable] and [fault.KEKIntegrity], lets a [Lease] run
//     out and no longer. The table is in answer.go.
//   - Every call asks the vault. Nothing here remembers a permission: a caller that
//     wants to survive a slow vault keeps what it unwrapped, for as long as its
//     lease allows.
//
// What the wrapped bytes protect, when to ask again and what to do about an answer
// is left to the caller.
//
// # Compatibility
//
// Exported identifiers keep their meaning, so that others can verify and recover
// data without the kluis binary.
package kek

// ShareSize is the length in bytes of what [Client.Wrap] takes and
// [Client.Unwrap] returns: a customer share.
const ShareSize = 32
