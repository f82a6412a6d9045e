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

// Supported reports whether items of a published type may be in a customer-managed
// workspace, unless the operator says otherwise: see [Workspaces.Supported].
func Supported(itemType string) bool { return itemTypes[ItemType(itemType)] }

// IndustrySolutions are the item types of industry solutions that an operator who
// names no others gets: the one of healthcare data solutions, as an example.
var IndustrySolutions = []ItemType{"HealthDataManager"}

// A typeSet is what one installation knows of item types: the published ones, with
// those that its operator added or marked as covered.
type typeSet struct {
	byCase    map[string]ItemType // those that are not published
	supported map[ItemType]bool
}

func newTypeSet(industry, covered []ItemType) typeSet {
	s := typeSet{byCase: map[string]ItemType{}, supported: maps.Clone(itemTypes)}
	for _, t := range industry {
		if _, ok := ParseItemType(string(t)); !ok {
			s.byCase[strings.ToLower(string(t))] = t
		}
		s.supported[t] = true
	}
	for _, t := range covered {
		if t, ok := s.parse(string(t)); ok {
			s.supported[t] = true
		}
	}
	return s
}

func (s typeSet) parse(text string) (ItemType, bool) {
	if t, ok := ParseItemType(text); ok {
		return t, true
	}
	t, ok := s.byCase[strings.ToLower(text)]
	return t, ok
}

// ParseItemType returns the item type of this installation that s spells in any
// case.
func (w *Workspaces) ParseItemType(s string) (ItemType, bool) { return w.types.parse(s) }

// Supported reports whether items of the type may be in a customer-managed
// workspace of this installation.
func (w *Workspaces) Supported(itemType string) bool { return w.types.supported[ItemType(itemType)] }
