/* Scores pictures one at a time: decode, resize as Pillow does, scale to [0, 1], predict, softmax.
 * One row a file: its name, the most likely class, that class's probability. */
#include "scorehost.h"

static sh_model *model;
static sh_recipe *recipe;

bool script_init(void) {
    model = sh_model_open(NULL);
    recipe = sh_recipe_for(model);
    return recipe != NULL;
}

static sh_tensor *predict(const char *file) {
    return sh_tensor_softmax(sh_model_predict(model, sh_image_tensor(sh_image_open(file), recipe)));
}

static bool read_best(const char *file, sh_tensor *probabilities, sh_output *output) {
    uint32_t best;
    float probability;
    return sh_tensor_best(probabilities, &best, &probability) &&
           sh_row(output, sh_text(sh_file_name(file)), sh_integer(best), sh_float(probability));
}

bool script_run(const char *const *files, size_t count, sh_output *output) {
    sh_columns(output, "file", "class", "probability");
    /* Results are read once all files are on their way, so that the model never waits for the script. */
    return sh_by_file(files, count, output, predict, read_best);
}
