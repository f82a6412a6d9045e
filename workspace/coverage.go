package workspace

// A Coverage says of an item what its keys cover and what they do not. It is the
// same for every item of a type: kluis keeps all types in one way.
type Coverage struct {
	Sealed    []string // under the item's keys, or for names the workspace's
	Visible   []string // in the database, to whoever holds that
	Elsewhere []string // kept by the engines behind the item, if there are any, and out of kluis's reach
}

// sealed and visible are docs/format.md's, in short.
var (
	sealed = []string{
		"display name and description", "definition, with pipeline, model and experiment metadata and environment libraries",
		"logs of job runs", "OneLake files: content, properties and metadata", "OneLake names of files and folders, with column names in their content",
	}
	visible = []string{
		"ids", "item type", "classification label", "folder that the item lies in", "sizes", "times of creation and change",
		"type, status and times of job runs", "number of files and folders and their tree's shape",
	}
)

// elsewhere is what engines keep that work on items of a type; Fabric's own list of
// what its customer-managed keys leave out is the model:
// https://learn.microsoft.com/fabric/security/workspace-customer-managed-keys
var elsewhere = map[ItemType][]string{
	Lakehouse:            {sparkScratch},
	Notebook:             {sparkScratch},
	"SparkJobDefinition": {sparkScratch},
	"Environment":        {sparkScratch},
	"MLModel":            {sparkScratch},
	"MLExperiment":       {sparkScratch},
	"Warehouse":          {sqlCaches},
	"SQLDatabase":        {sqlCaches},
	"MirroredDatabase":   {sqlCaches, "the source database"},
	"GraphQLApi":         {"the gateway's caches and logs"},
	"DataPipeline":       {"sources and sinks outside of the workspace"},
	"CopyJob":            {"sources and sinks outside of the workspace"},
	"Dataflow":           {"sources and sinks outside of the workspace", "the engine's spill files"},
}

const (
	sparkScratch = "Spark's scratch space (shuffle files, spills, cached blocks) and event logs: check the configuration with 'kluis spark check'"
	sqlCaches    = "the query engine's caches and temporary files"
)

// CoverageOf returns what the keys of an item of a type cover.
func CoverageOf(t ItemType) Coverage { return Coverage{sealed, visible, elsewhere[t]} }
