package rbac

var Match = match
