package session

var Local = local
