/* Pictures, tensors and models: the host's functions with failures and owning as scorehost.h says. */
#include <string.h>

#include "internal.h"

typedef scorehost_script_tensors_own_tensor_t own_tensor;
typedef scorehost_script_tensors_borrow_tensor_t borrow_tensor;
typedef scorehost_script_images_borrow_recipe_t borrow_recipe;
typedef scorehost_script_images_borrow_image_t borrow_image;
typedef scorehost_script_models_borrow_model_t borrow_model;

static borrow_tensor tensor_of(const sh_tensor *tensor) { return (borrow_tensor){handle_of(tensor)}; }
static borrow_recipe recipe_of(const sh_recipe *recipe) { return (borrow_recipe){handle_of(recipe)}; }
static borrow_image image_of(const sh_image *image) { return (borrow_image){handle_of(image)}; }
static borrow_model model_of(const sh_model *model) { return (borrow_model){handle_of(model)}; }

/* What a call gave: a tensor, or its failure. */
static sh_tensor *tensor_or(bool succeeded, own_tensor made, failure *given) {
    if (succeeded) return hold(TENSOR, made.__handle, 0);
    take_failure(given);
    return NULL;
}

sh_recipe *sh_recipe_new(uint32_t width, uint32_t height) {
    return hold(RECIPE, scorehost_script_images_constructor_recipe(width, height).__handle, 0);
}

void sh_recipe_filter(sh_recipe *recipe, sh_filter filter, bool antialias) {
    if (is_given(recipe)) {
        scorehost_script_images_method_recipe_resize_filter(recipe_of(recipe), (uint8_t)filter, antialias);
    }
}

void sh_recipe_shorter_side(sh_recipe *recipe, uint32_t pixels) {
    if (is_given(recipe)) scorehost_script_images_method_recipe_shorter_side(recipe_of(recipe), pixels);
}

void sh_recipe_normalize(sh_recipe *recipe, float scale, const float mean[3], const float deviation[3]) {
    scoring_script_tuple3_f32_f32_f32_t means = {mean[0], mean[1], mean[2]};
    scoring_script_tuple3_f32_f32_f32_t deviations = {deviation[0], deviation[1], deviation[2]};
    if (is_given(recipe)) {
        scorehost_script_images_method_recipe_normalize(recipe_of(recipe), scale, &means, &deviations);
    }
}

void sh_recipe_layout(sh_recipe *recipe, sh_layout layout) {
    if (is_given(recipe)) scorehost_script_images_method_recipe_layout(recipe_of(recipe), (uint8_t)layout);
}

void sh_recipe_blue_first(sh_recipe *recipe) {
    if (is_given(recipe)) scorehost_script_images_method_recipe_blue_first(recipe_of(recipe));
}

void sh_recipe_bytes(sh_recipe *recipe) {
    if (is_given(recipe)) scorehost_script_images_method_recipe_bytes(recipe_of(recipe));
}

void sh_recipe_upright(sh_recipe *recipe) {
    if (is_given(recipe)) scorehost_script_images_method_recipe_upright(recipe_of(recipe));
}

sh_recipe *sh_recipe_for(sh_model *model) {
    static const float zeros[3] = {0, 0, 0}, ones[3] = {1, 1, 1};
    size_t count;
    const sh_port *input = sh_model_inputs(model, &count);
    if (!input) return NULL;
    if (count != 1) {
        sh_fail("the model has %zu inputs, not one", count);
        return NULL;
    }
    const int64_t *shape = input->shape;
    bool is_first = input->dimensions == 4 && shape[1] == 3 && shape[2] > 0 && shape[3] > 0;
    bool is_last = input->dimensions == 4 && shape[3] == 3 && shape[1] > 0 && shape[2] > 0;
    if (!is_first && !is_last) {
        sh_fail("the model's input `%s` is not a batch of RGB pictures", input->name);
        return NULL;
    }
    if (input->element == SH_INTEGERS) {
        sh_fail("the model's input `%s` takes integers, not pictures", input->name);
        return NULL;
    }
    const int64_t *sides = is_first ? shape + 2 : shape + 1;
    sh_recipe *recipe = sh_recipe_new((uint32_t)sides[1], (uint32_t)sides[0]);
    sh_recipe_layout(recipe, is_first ? SH_CHANNELS_FIRST : SH_CHANNELS_LAST);
    if (input->element == SH_FLOATS) {
        sh_recipe_normalize(recipe, 1.0f / 255.0f, zeros, ones);
    } else {
        sh_recipe_bytes(recipe);
    }
    return recipe;
}

static sh_image *image_or(bool succeeded, scorehost_script_images_own_image_t made, failure *given) {
    if (succeeded) return hold(IMAGE, made.__handle, 0);
    take_failure(given);
    return NULL;
}

sh_image *sh_image_open(const char *file) {
    if (!is_given(file)) return NULL;
    scorehost_script_images_own_image_t made = {0};
    failure given;
    text path = borrowed(file);
    return image_or(scorehost_script_images_static_image_open(&path, &made, &given), made, &given);
}

uint32_t sh_image_width(sh_image *image) {
    return is_given(image) ? scorehost_script_images_method_image_width(image_of(image)) : 0;
}

uint32_t sh_image_height(sh_image *image) {
    return is_given(image) ? scorehost_script_images_method_image_height(image_of(image)) : 0;
}

sh_image *sh_image_crop(sh_image *image, uint32_t left, uint32_t top, uint32_t width, uint32_t height) {
    if (!is_given(image)) return NULL;
    scorehost_script_images_own_image_t made = {0};
    failure given;
    bool succeeded =
        scorehost_script_images_method_image_crop(image_of(image), left, top, width, height, &made, &given);
    return image_or(succeeded, made, &given);
}

sh_tensor *sh_image_tensor(sh_image *image, sh_recipe *recipe) {
    if (!is_given(image) || !is_given(recipe)) return NULL;
    own_tensor made = {0};
    failure given;
    bool succeeded = scorehost_script_images_method_image_tensor(image_of(image), recipe_of(recipe), &made, &given);
    return tensor_or(succeeded, made, &given);
}

sh_tensor *sh_images_load(const char *const *files, size_t count, sh_recipe *recipe, sh_output *output,
                          const char *const **loaded, size_t *loaded_count) {
    *loaded_count = 0;
    if (!is_given(recipe) || !is_given(output)) return NULL;
    scoring_script_list_string_t paths = {sh_allocate(count, sizeof(text)), count};
    for (size_t i = 0; i < count; i++) paths.ptr[i] = borrowed(files[i]);
    scorehost_script_images_loaded_t made;
    failure given;
    if (!scorehost_script_images_load(&paths, recipe_of(recipe), &made, &given)) {
        take_failure(&given);
        return NULL;
    }
    bool *is_bad = sh_allocate(count, sizeof *is_bad);
    for (size_t i = 0; i < made.failed.len; i++) {
        scorehost_script_types_failed_file_t *file = &made.failed.ptr[i];
        if (file->index < count) is_bad[file->index] = true;
        sh_fail_file(output, file->index, copied(file->reason));
    }
    scorehost_script_images_list_failed_file_free(&made.failed);
    const char **good = sh_allocate(count, sizeof *good);
    for (size_t i = 0; i < count; i++) {
        if (!is_bad[i]) good[(*loaded_count)++] = files[i];
    }
    *loaded = good;
    return hold(TENSOR, made.pictures.__handle, 0);
}

static size_t product(const uint32_t *shape, size_t dimensions) {
    size_t count = 1;
    for (size_t i = 0; i < dimensions; i++) {
        /* What is too much for memory is refused by the host, by its length. */
        count = shape[i] && count > SIZE_MAX / 8 / shape[i] ? SIZE_MAX / 8 : count * shape[i];
    }
    return count;
}

/* The three makers differ in the type of their data alone. */
#define TENSOR_OF(name, type, list, function)                                                          \
    sh_tensor *name(const uint32_t *shape, size_t dimensions, const type *data) {                      \
        if (!is_given(shape) || !is_given(data)) return NULL;                                          \
        scoring_script_list_u32_t sizes = {(uint32_t *)(uintptr_t)shape, dimensions};                  \
        list all = {(type *)(uintptr_t)data, product(shape, dimensions)};                              \
        own_tensor made = {0};                                                                         \
        failure given;                                                                                 \
        return tensor_or(function(&sizes, &all, &made, &given), made, &given);                         \
    }

TENSOR_OF(sh_tensor_of_floats, float, scoring_script_list_f32_t, scorehost_script_tensors_static_tensor_from_floats)
TENSOR_OF(sh_tensor_of_bytes, uint8_t, scoring_script_list_u8_t, scorehost_script_tensors_static_tensor_from_bytes)
TENSOR_OF(sh_tensor_of_integers, int64_t, scoring_script_list_s64_t, scorehost_script_tensors_static_tensor_from_integers)

/* Numbers of the host, until the run ends. Never NULL, so that NULL says failure. */
static void *numbers(const void *from, size_t count, size_t size) {
    void *made = sh_allocate(count, size);
    if (count) memcpy(made, from, count * size);
    return made;
}

/* And so do the three readers. */
#define READER(name, type, list, function, done)                                                       \
    const type *name(sh_tensor *tensor, size_t *count) {                                               \
        *count = 0;                                                                                    \
        if (!is_given(tensor)) return NULL;                                                            \
        list all;                                                                                      \
        failure given;                                                                                 \
        if (!function(tensor_of(tensor), &all, &given)) {                                              \
            take_failure(&given);                                                                      \
            return NULL;                                                                               \
        }                                                                                              \
        const type *made = numbers(all.ptr, all.len, sizeof *made);                                    \
        *count = all.len;                                                                              \
        done(&all);                                                                                    \
        return made;                                                                                   \
    }

READER(sh_tensor_shape, uint32_t, scoring_script_list_u32_t, scorehost_script_tensors_method_tensor_shape,
       scoring_script_list_u32_free)
READER(sh_tensor_floats, float, scoring_script_list_f32_t, scorehost_script_tensors_method_tensor_floats,
       scoring_script_list_f32_free)
READER(sh_tensor_integers, int64_t, scoring_script_list_s64_t, scorehost_script_tensors_method_tensor_integers,
       scoring_script_list_s64_free)

bool sh_tensor_element(sh_tensor *tensor, sh_element *element) {
    if (!is_given(tensor)) return false;
    scorehost_script_tensors_element_t made;
    failure given;
    if (!scorehost_script_tensors_method_tensor_element(tensor_of(tensor), &made, &given)) return take_failure(&given);
    *element = (sh_element)made;
    return true;
}

sh_tensor *sh_tensor_slice(sh_tensor *tensor, uint32_t start, uint32_t count) {
    if (!is_given(tensor)) return NULL;
    own_tensor made = {0};
    failure given;
    bool succeeded = scorehost_script_tensors_method_tensor_slice(tensor_of(tensor), start, count, &made, &given);
    return tensor_or(succeeded, made, &given);
}

sh_tensor *sh_tensor_softmax(sh_tensor *tensor) {
    if (!is_given(tensor)) return NULL;
    return hold(TENSOR, scorehost_script_tensors_method_tensor_softmax(tensor_of(tensor)).__handle, 0);
}

bool sh_tensor_top(sh_tensor *tensor, uint32_t k, sh_largest *largest) {
    *largest = (sh_largest){0};
    if (!is_given(tensor)) return false;
    scorehost_script_tensors_largest_t all;
    failure given;
    if (!scorehost_script_tensors_method_tensor_top(tensor_of(tensor), k, &all, &given)) return take_failure(&given);
    *largest = (sh_largest){.width = all.width,
                            .count = all.indices.len,
                            .indices = numbers(all.indices.ptr, all.indices.len, sizeof(uint32_t)),
                            .scores = numbers(all.scores.ptr, all.scores.len, sizeof(float))};
    scorehost_script_tensors_largest_free(&all);
    return true;
}

bool sh_tensor_best(sh_tensor *tensor, uint32_t *index, float *score) {
    sh_largest largest;
    if (!sh_tensor_top(tensor, 1, &largest)) return false;
    if (!largest.count) return sh_fail("the model gave no scores");
    *index = largest.indices[0];
    *score = largest.scores[0];
    return true;
}

typedef bool joiner(scorehost_script_tensors_list_borrow_tensor_t *, own_tensor *, failure *);

static sh_tensor *joined(joiner *join, sh_tensor *const *parts, size_t count) {
    scorehost_script_tensors_list_borrow_tensor_t all = {sh_allocate(count, sizeof(borrow_tensor)), count};
    for (size_t i = 0; i < count; i++) {
        if (!is_given(parts[i])) return NULL;
        all.ptr[i] = tensor_of(parts[i]);
    }
    own_tensor made = {0};
    failure given;
    return tensor_or(join(&all, &made, &given), made, &given);
}

sh_tensor *sh_stack(sh_tensor *const *parts, size_t count) {
    return joined(scorehost_script_tensors_stack, parts, count);
}

sh_tensor *sh_concatenate(sh_tensor *const *parts, size_t count) {
    return joined(scorehost_script_tensors_concatenate, parts, count);
}

sh_model *sh_model_open(const char *path) {
    text given_path = path ? borrowed(path) : (text){0};
    scorehost_script_models_own_model_t made;
    failure given;
    if (scorehost_script_models_static_model_open(path ? &given_path : NULL, &made, &given)) {
        return hold(MODEL, made.__handle, 0);
    }
    take_failure(&given);
    return NULL;
}

static const sh_port *ports(scorehost_script_models_list_port_t *all, size_t *count) {
    sh_port *made = sh_allocate(all->len, sizeof *made);
    for (size_t i = 0; i < all->len; i++) {
        scorehost_script_models_port_t *port = &all->ptr[i];
        int64_t *shape = sh_allocate(port->shape.len, sizeof *shape);
        for (size_t side = 0; side < port->shape.len; side++) {
            shape[side] = port->shape.ptr[side].is_some ? port->shape.ptr[side].val : -1;
        }
        made[i] = (sh_port){copied(port->name), shape, port->shape.len, (sh_element)port->element};
    }
    *count = all->len;
    scorehost_script_models_list_port_free(all);
    return made;
}

const sh_port *sh_model_inputs(sh_model *model, size_t *count) {
    *count = 0;
    if (!is_given(model)) return NULL;
    scorehost_script_models_list_port_t all;
    scorehost_script_models_method_model_inputs(model_of(model), &all);
    return ports(&all, count);
}

const sh_port *sh_model_outputs(sh_model *model, size_t *count) {
    *count = 0;
    if (!is_given(model)) return NULL;
    scorehost_script_models_list_port_t all;
    scorehost_script_models_method_model_outputs(model_of(model), &all);
    return ports(&all, count);
}

sh_tensor *sh_model_predict(sh_model *model, sh_tensor *input) {
    if (!is_given(model) || !is_given(input)) return NULL;
    own_tensor made = {0};
    failure given;
    bool succeeded = scorehost_script_models_method_model_predict(model_of(model), tensor_of(input), &made, &given);
    return tensor_or(succeeded, made, &given);
}

const sh_named_tensor *sh_model_predict_named(sh_model *model, const sh_named_tensor *inputs, size_t count,
                                              size_t *output_count) {
    *output_count = 0;
    if (!is_given(model)) return NULL;
    scorehost_script_models_list_tuple2_string_borrow_tensor_t all = {sh_allocate(count, sizeof *all.ptr), count};
    for (size_t i = 0; i < count; i++) {
        if (!is_given(inputs[i].name) || !is_given(inputs[i].tensor)) return NULL;
        all.ptr[i].f0 = borrowed(inputs[i].name);
        all.ptr[i].f1 = tensor_of(inputs[i].tensor);
    }
    scorehost_script_models_list_tuple2_string_own_tensor_t outputs;
    failure given;
    if (!scorehost_script_models_method_model_predict_named(model_of(model), &all, &outputs, &given)) {
        take_failure(&given);
        return NULL;
    }
    sh_named_tensor *made = sh_allocate(outputs.len, sizeof *made);
    for (size_t i = 0; i < outputs.len; i++) {
        made[i] = (sh_named_tensor){copied(outputs.ptr[i].f0), hold(TENSOR, outputs.ptr[i].f1.__handle, 0)};
    }
    *output_count = outputs.len;
    scorehost_script_models_list_tuple2_string_own_tensor_free(&outputs);
    return made;
}
