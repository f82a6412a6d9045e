package workspace

import (
	"maps"
	"slices"
	"strings"
)

// An ItemType is one of the published item types, in the published spelling.
type ItemType string

// The item types that this package's callers name.
const (
	Lakehouse ItemType = "Lakehouse"
	Notebook  ItemType = "Notebook"
)

// itemTypes are the published types (the enumeration ItemType of Fabric's REST
// specification, https://learn.microsoft.com/rest/api/fabric/core/items), and
// whether items of the type may be in a customer-managed workspace.
var itemTypes = map[ItemType]bool{
	Lakehouse:            true,
	"Warehouse":          true,
	Notebook:             true,
	"Environment":        true,
	"SparkJobDefinition": true,
	"GraphQLApi":         true,
	"MLModel":            true,
	"MLExperiment":       true,
	"DataPipeline":       true,
	"Dataflow":           true,
	"MirroredDatabase":   true,
	"SQLDatabase":        true,
	"CopyJob":            true,
	"Dashboard":          false,
	"Report":             false,
	"SemanticModel":      false,
	"PaginatedReport":    false,
	"Datamart":           false,
	"Eventhouse":         false,
	"KQLDatabase":        false,
	"KQLQueryset":        false,
	"KQLDashboard":       false,
	"Eventstream":        false,
	"SQLEndpoint":        false,
	"MirroredWarehouse":  false,
	"Reflex":             false,
	"MountedDataFactory": false,
	"VariableLibrary":    false,
	"ApacheAirflowJob":   false,
	"WarehouseSnapshot":  false,
	"DigitalTwinBuilder": false,
	"Map":                false,
	"AnomalyDetector":    false,
	"UserDataFunction":   false,
	"GraphModel":         false,
	"GraphQuerySet":      false,
	"SnowflakeDatabase":  false,
	"OperationsAgent":    false,
	"CosmosDBDatabase":   false,
	"Ontology":           false,
	"EventSchemaSet":     false,
	"DataAgent":          false,
	"MirroredCatalog":    false,
	"AppBackend":         false,
	"OrgApp":             false,
	"OrgAppAudience":     false,
	"DataBuildToolJob":   false,
	"Plan":               false,

	"DigitalTwinBuilderFlow":         false,
	"MirroredAzureDatabricksCatalog": false,
	"AzureDatabricksStorage":         false,
}

var itemTypesByCase = func() map[string]ItemType {
	m := make(map[string]ItemType, len(itemTypes))
	for t := range itemTypes {
		m[strings.ToLower(string(t))] = t
	}
	return m
}()

// ParseItemType returns the published type that s spells in any case.
func ParseItemType(s string) (ItemType, bool) {
	t, ok := itemTypesByCase[strings.ToLower(s)]
	return t, ok
}

// ItemTypes returns the published types in order.
func ItemTypes() []ItemType { return slices.Sorted(maps.Keys(itemTypes)) }

// Supported reports whether items of the type may be in a customer-managed
// workspace.
func Supported(itemType string) bool { return itemTypes[ItemType(itemType)] }
