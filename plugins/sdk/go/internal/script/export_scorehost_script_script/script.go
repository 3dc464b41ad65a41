// Package export_scorehost_script_script is what the generated exports call; the SDK fills it in, which cannot be
// imported from here.
package export_scorehost_script_script

import (
	types "scorehost/internal/generated/scorehost_script_types"
	wit "scorehost/internal/wit/types"
)

var (
	Init func() wit.Result[wit.Unit, types.Failure]
	Run  func(miniBatch []string) wit.Result[types.Output, types.Failure]
)
