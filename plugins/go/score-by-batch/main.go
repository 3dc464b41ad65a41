// Scores the whole mini-batch as one tensor, cut into batches of the tag `device_batching` (all at once without it).
// One row a file: its name, the most likely class, that class's probability.
package main

import "scorehost"

type script struct {
	model  *scorehost.Model
	recipe *scorehost.Recipe
	size   int
}

func (s *script) Init() (err error) {
	if s.model, err = scorehost.OpenModel(""); err == nil {
		s.recipe, err = scorehost.RecipeFor(s.model)
	}
	if err == nil {
		s.size, err = scorehost.SettingOr("device_batching", 0)
	}
	return err
}

func (s *script) Run(files []string) (*scorehost.Output, error) {
	pictures, failed, err := scorehost.LoadImages(files, s.recipe)
	if err != nil {
		return nil, err
	}
	output, good := scorehost.NewOutput("file", "class", "probability"), scorehost.Without(files, failed)
	output.FailAll(failed)
	return output, s.model.PredictBatches(pictures, s.size, func(first int, logits *scorehost.Tensor) error {
		rows, err := logits.Softmax().BestOfRows()
		for i, best := range rows {
			output.Push(scorehost.FileName(good[first+i]), best.Index, best.Score)
		}
		return err
	})
}

func init() { scorehost.Register(&script{}) }
func main() {}
