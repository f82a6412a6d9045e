package root

// What the tests of the arithmetic and of the parser need.
var (
	GFMul       = gfMul
	GFInv       = gfInv
	Evaluate    = evaluate
	SplitSecret = split
	CombineAt   = combine
	ParseFile   = parseFile
)
