// Package harden takes from this process what would let its memory out: core dumps, other
// processes of the same user, and swap.
//
// It protects against accidents and against neighbours, not against the host's root, who
// can undo or go round all of it.
package harden
