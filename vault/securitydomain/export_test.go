package securitydomain

// What tests see of the sharing.
var (
	Split   = split
	Combine = combine
	Mul     = mul
	Inverse = inverse
	Derive  = derive
)
