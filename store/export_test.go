package store

// Written is the table that a statement writes to.
var Written = written
