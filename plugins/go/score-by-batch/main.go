// Scores the whole mini-batch as one tensor, cut into batches of the tag `device_batching` (all at once without it).
// One row a file: its name, the most likely class, that class's probability.
package main

import (
	"math"

	"scorehost"
)

type script struct {
	model  *scorehost.Model
	recipe *scorehost.Recipe
	size   int
}

func (s *script) Init() (err error) {
	if s.model, err = scorehost.OpenModel(""); err != nil {
		return err
	}
	if s.recipe, err = scorehost.RecipeFor(s.model); err != nil {
		return err
	}
	s.size, err = scorehost.SettingOr("device_batching", math.MaxInt32)
	s.size = max(s.size, 1)
	return err
}

func (s *script) Run(files []string) (*scorehost.Output, error) {
	pictures, failed, err := scorehost.LoadImages(files, s.recipe)
	if err != nil {
		return nil, err
	}
	output := scorehost.NewOutput("file", "class", "probability")
	output.FailAll(failed)
	good := scorehost.Without(files, failed)
	// Every batch is handed over before the first result is read, so that the device never waits for the script.
	var scored []*scorehost.Tensor
	for start := 0; start < len(good); start += s.size {
		batch, err := pictures.Slice(start, min(s.size, len(good)-start))
		if err != nil {
			return nil, err
		}
		logits, err := s.model.Predict(batch)
		if err != nil {
			return nil, err
		}
		scored = append(scored, logits.Softmax())
	}
	for _, probabilities := range scored {
		rows, err := probabilities.BestOfRows()
		if err != nil {
			return nil, err
		}
		for i, best := range rows {
			output.Push(scorehost.FileName(good[i]), best.Index, best.Score)
		}
		good = good[len(rows):]
	}
	return output, nil
}

func init() { scorehost.Register(&script{}) }
func main() {}
