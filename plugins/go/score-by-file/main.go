// Scores pictures one at a time: decode, resize as Pillow does, scale to [0, 1], predict, softmax.
// One row a file: its name, the most likely class, that class's probability.
package main

import "scorehost"

type script struct {
	model  *scorehost.Model
	recipe *scorehost.Recipe
}

func (s *script) Init() (err error) {
	if s.model, err = scorehost.OpenModel(""); err == nil {
		s.recipe, err = scorehost.RecipeFor(s.model)
	}
	return err
}

func (s *script) Run(files []string) (*scorehost.Output, error) {
	// Results are read once all files are on their way, so that the model never waits for the script.
	return scorehost.ByFileAhead(files, scorehost.Columns{"file", "class", "probability"}, s.predict, read)
}

func (s *script) predict(file string) (*scorehost.Tensor, error) {
	image, err := scorehost.OpenImage(file)
	if err != nil {
		return nil, err
	}
	pixels, err := image.Tensor(s.recipe)
	if err != nil {
		return nil, err
	}
	return s.model.Predict(pixels)
}

func read(file string, logits *scorehost.Tensor) (scorehost.Row, error) {
	class, probability, err := logits.Softmax().Best()
	return scorehost.Row{scorehost.FileName(file), class, probability}, err
}

func init() { scorehost.Register(&script{}) }
func main() {}
