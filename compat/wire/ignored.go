package wire

// ignoredFields names the fields of requests that berth does not keep, with the reason. Every other field survives the way to the domain
// and back; the round-trip test holds the list against the API types in both directions.
var ignoredFields = map[string]string{
	"NetworkingConfig.EndpointsConfig.*.NetworkID":           "operational: the answer's, not the request's",
	"NetworkingConfig.EndpointsConfig.*.EndpointID":          "operational",
	"NetworkingConfig.EndpointsConfig.*.Gateway":             "operational",
	"NetworkingConfig.EndpointsConfig.*.IPAddress":           "operational",
	"NetworkingConfig.EndpointsConfig.*.IPPrefixLen":         "operational",
	"NetworkingConfig.EndpointsConfig.*.IPv6Gateway":         "operational",
	"NetworkingConfig.EndpointsConfig.*.GlobalIPv6Address":   "operational",
	"NetworkingConfig.EndpointsConfig.*.GlobalIPv6PrefixLen": "operational",
	"NetworkingConfig.EndpointsConfig.*.DNSNames":            "operational: made from name, aliases and id",
}
