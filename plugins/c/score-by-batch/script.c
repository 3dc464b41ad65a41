/* Scores the whole mini-batch as one tensor, cut into batches of the tag `device_batching` (all at once without it).
 * One row a file: its name, the most likely class, that class's probability. */
#include "scorehost.h"

static sh_model *model;
static sh_recipe *recipe;
static size_t batch_size;

bool script_init(void) {
    double setting;
    model = sh_model_open(NULL);
    recipe = sh_recipe_for(model);
    if (!recipe || !sh_setting_number("device_batching", 1e9, &setting)) return false;
    batch_size = setting < 1 ? 1 : setting > 1e9 ? 1000000000 : (size_t)setting;
    return true;
}

bool script_run(const char *const *files, size_t count, sh_output *output) {
    const char *const *loaded;
    size_t rows;
    sh_columns(output, "file", "class", "probability");
    sh_tensor *pictures = sh_images_load(files, count, recipe, output, &loaded, &rows);
    if (!pictures) return false;
    /* Every batch is handed over before the first result is read, so that the device never waits for the script. */
    size_t batches = rows / batch_size + (rows % batch_size != 0);
    sh_tensor **scored = (sh_tensor **)sh_allocate(batches, sizeof *scored);
    for (size_t i = 0; i < batches; i++) {
        size_t start = i * batch_size, left = rows - start;
        sh_tensor *batch = sh_tensor_slice(pictures, start, left < batch_size ? left : batch_size);
        scored[i] = sh_tensor_softmax(sh_model_predict(model, batch));
    }
    for (size_t i = 0; i < batches; i++) {
        sh_largest best;
        if (!sh_tensor_top(scored[i], 1, &best)) return false;
        for (size_t row = 0; row < best.count; row++) {
            sh_row(output, sh_text(sh_file_name(*loaded++)), sh_integer(best.indices[row]), sh_float(best.scores[row]));
        }
    }
    return true;
}
