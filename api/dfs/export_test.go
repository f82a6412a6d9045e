package dfs

var (
	Faults           = faults
	ParseSource      = parseSource
	ParseProperties  = parseProperties
	FormatProperties = formatProperties
)
