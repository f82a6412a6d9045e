package blob

var (
	Faults         = faults
	ParseBlockList = parseBlockList
)
