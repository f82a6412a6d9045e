package main

import "github.com/kluis-io/kluis/rbac"

// roles are the role assignments of the parties served, for the directory to ask:
// nobody may create or reset a principal that holds a role he lacks.
func (s *server) roles() rbac.Parties {
	var all rbac.Parties
	for _, p := range s.parties() {
		if p != s.login { // which gives none
			all = append(all, p.db.Roles())
		}
	}
	return all
}

// separated says why the vault's and the platform's sides are not separated in
// this process, "" if they are.
func (s *server) separated() string {
	if s.custodian != nil && s.operator != nil {
		return "one process, one data directory and one issuer hold both: run them apart, with roots and users of their own, for the promise to hold against either's owner"
	}
	return ""
}
