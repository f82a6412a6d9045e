package portal

var (
	BytesText  = bytesText
	LengthText = lengthText
	AgoFrom    = agoFrom
	Many       = many
	Count      = count
	Period     = period
)
