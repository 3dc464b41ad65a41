package scorehost

import (
	"fmt"
	"strings"

	images "scorehost/internal/generated/scorehost_script_images"
	tensors "scorehost/internal/generated/scorehost_script_tensors"
	types "scorehost/internal/generated/scorehost_script_types"
	wit "scorehost/internal/wit/types"
)

// Filter is how a picture is resized.
type Filter = images.Filter

const (
	Nearest  = images.FilterNearest
	Bilinear = images.FilterBilinear
	Bicubic  = images.FilterBicubic
	Lanczos  = images.FilterLanczos
)

// Layout is where a picture's channels are in a tensor.
type Layout = images.Layout

const (
	ChannelsFirst = images.LayoutChannelsFirst
	ChannelsLast  = images.LayoutChannelsLast
)

// Recipe is how a picture becomes numbers.
type Recipe struct{ recipe *images.Recipe }

func (r *Recipe) host() closer { return r.recipe }

// Close frees it before Run returns.
func (r *Recipe) Close() { r.recipe.Drop() }

// NewRecipe stretches to width × height, bicubic and antialiased as Pillow does it, to RGB floats in [0, 255], channels
// first. Its methods change what later calls do.
func NewRecipe(width, height int) *Recipe {
	return &Recipe{held(images.MakeRecipe(uint32(width), uint32(height)))}
}

// RecipeFor is the recipe that a picture model's only input asks for: its size and layout, bytes where it takes bytes,
// and else floats in [0, 1].
func RecipeFor(model *Model) (*Recipe, error) {
	inputs := model.Inputs()
	if len(inputs) != 1 {
		return nil, fmt.Errorf("the model has %d inputs, not one", len(inputs))
	}
	input := inputs[0]
	var recipe *Recipe
	switch shape := input.Shape; {
	case len(shape) == 4 && shape[1] == 3 && shape[2] > 0 && shape[3] > 0:
		recipe = NewRecipe(shape[3], shape[2])
	case len(shape) == 4 && shape[3] == 3 && shape[1] > 0 && shape[2] > 0:
		recipe = NewRecipe(shape[2], shape[1])
		recipe.Layout(ChannelsLast)
	default:
		return nil, fmt.Errorf("the model's input `%s` is not a batch of RGB pictures: %v", input.Name, shape)
	}
	switch input.Element {
	case Float:
		recipe.Normalize(1.0/255.0, [3]float32{0, 0, 0}, [3]float32{1, 1, 1})
	case UnsignedByte:
		recipe.Bytes()
	default:
		return nil, fmt.Errorf("the model's input `%s` takes integers, not pictures", input.Name)
	}
	return recipe, nil
}

// ResizeFilter sets the filter; antialiased are Pillow's numbers, not antialiased TensorFlow's and OpenCV's.
func (r *Recipe) ResizeFilter(filter Filter, antialias bool) {
	r.recipe.ResizeFilter(filter, antialias)
}

// ShorterSide resizes the shorter side to this many pixels and cuts the centre, instead of stretching.
func (r *Recipe) ShorterSide(pixels int) { r.recipe.ShorterSide(uint32(pixels)) }

// Normalize makes each value (pixel × scale − mean) ÷ deviation, by channel.
func (r *Recipe) Normalize(scale float32, mean, deviation [3]float32) {
	r.recipe.Normalize(scale, triple(mean), triple(deviation))
}

// Layout sets where the channels are.
func (r *Recipe) Layout(layout Layout) { r.recipe.Layout(layout) }

// BlueFirst turns the order of the channels.
func (r *Recipe) BlueFirst() { r.recipe.BlueFirst() }

// Bytes keeps bytes as they are, for models that take them; not together with Normalize.
func (r *Recipe) Bytes() { r.recipe.Bytes() }

// Upright turns the picture as its EXIF orientation says; without it, pixels are taken as stored.
func (r *Recipe) Upright() { r.recipe.Upright() }

func triple(of [3]float32) wit.Tuple3[float32, float32, float32] {
	return wit.Tuple3[float32, float32, float32]{F0: of[0], F1: of[1], F2: of[2]}
}

// Image is a picture of the mini-batch. Its pixels are decoded on the host, when something needs them.
type Image struct{ image *images.Image }

func (i *Image) host() closer { return i.image }

// Close frees it before Run returns.
func (i *Image) Close() { i.image.Drop() }

// OpenImage reads a file's header.
func OpenImage(file string) (*Image, error) {
	return ask(func() wit.Result[*images.Image, types.Failure] { return images.ImageOpen(text(file)) }, heldImage)
}

// Width is in pixels, as stored.
func (i *Image) Width() int { return int(i.image.Width()) }

// Height is in pixels, as stored.
func (i *Image) Height() int { return int(i.image.Height()) }

// Crop cuts out a region of the stored pixels, and fails if it leaves the picture.
func (i *Image) Crop(left, top, width, height int) (*Image, error) {
	return ask(func() wit.Result[*images.Image, types.Failure] {
		return i.image.Crop(uint32(left), uint32(top), uint32(width), uint32(height))
	}, heldImage)
}

// Tensor is the picture as the recipe says, without a batch dimension.
func (i *Image) Tensor(recipe *Recipe) (*Tensor, error) {
	return ask(func() wit.Result[*tensors.Tensor, types.Failure] { return i.image.Tensor(recipe.recipe) }, heldTensor)
}

func heldImage(image *images.Image) *Image { return &Image{held(image)} }

// FailedFile is a file of the mini-batch that gave no row, by its index.
type FailedFile = types.FailedFile

// LoadImages makes one tensor of all files: a row for each that could be decoded, in order, and the others as failed.
func LoadImages(files []string, recipe *Recipe) (*Tensor, []FailedFile, error) {
	type loaded struct {
		pictures *Tensor
		failed   []FailedFile
	}
	all, err := ask(func() wit.Result[images.Loaded, types.Failure] {
		return images.Load(files, recipe.recipe)
	}, func(given images.Loaded) loaded {
		for i := range given.Failed {
			given.Failed[i].Reason = strings.Clone(given.Failed[i].Reason)
		}
		return loaded{heldTensor(given.Pictures), given.Failed}
	})
	return all.pictures, all.failed, err
}

// Without is the files that did not fail: those that the rows of [LoadImages] belong to.
func Without(files []string, failed []FailedFile) []string {
	bad := make(map[uint32]bool, len(failed))
	for _, file := range failed {
		bad[file.Index] = true
	}
	good := make([]string, 0, len(files))
	for i, file := range files {
		if !bad[uint32(i)] {
			good = append(good, file)
		}
	}
	return good
}
