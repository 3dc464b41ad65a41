/* Write a Scorehost scoring script in C11 or C++: two functions, script_init and script_run.
 *
 *     static sh_model *model;
 *     static sh_recipe *recipe;
 *
 *     bool script_init(void) {
 *         model = sh_model_open(NULL);
 *         recipe = sh_recipe_for(model);
 *         return recipe != NULL;
 *     }
 *
 * Failing. What gives a pointer gives NULL when it fails, what gives a bool gives false; the first failure is kept, with its
 * reason. What is handed NULL fails too and keeps that first failure, so that calls can be nested and asked once:
 *
 *     sh_tensor *scores = sh_model_predict(model, sh_image_tensor(sh_image_open(file), recipe));
 *
 * A failure that is kept fails the call of script_run when it returns, whatever it returns. A script that goes on in spite of
 * one says so, with sh_fail_file_alone or sh_forget_failure.
 *
 * Owning. Nothing needs to be freed. What script_init makes lives as long as the script; everything that script_run makes,
 * texts and arrays too, ends when it returns, unless sh_keep was called, or earlier, by sh_close. What the script
 * allocates itself is its own.
 *
 * abort, a trap and an exit end the instance; what was printed to stderr is in the mini-batch's error, and the next attempt
 * begins with script_init on a fresh one. There are no threads, and C++ has no exceptions.
 */
#ifndef SCOREHOST_H
#define SCOREHOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SH_FORMAT(at) __attribute__((format(printf, at, at + 1)))

/* ---- What a script defines ---- */

typedef struct sh_output sh_output;

/* Once per instance, before its first mini-batch. False with a failure, of a call or of sh_fail, ends the job if every
 * attempt gives one. */
bool script_init(void);

/* Once per mini-batch, with the paths of its files, as fopen takes them. Rows and failed files go to the output; false fails
 * the mini-batch with the failure that is kept. */
bool script_run(const char *const *files, size_t count, sh_output *output);

/* ---- Failures ---- */

/* Notes a failure that would come again, and gives false. An earlier one is kept instead. */
bool sh_fail(const char *format, ...) SH_FORMAT(1);
/* The same for one that is worth another attempt of the mini-batch. */
bool sh_fail_transient(const char *format, ...) SH_FORMAT(1);
/* The reason of the failure that is kept; NULL if there is none. */
const char *sh_failure(void);
/* Forgets it. */
void sh_forget_failure(void);

/* ---- Output ---- */

typedef enum { SH_EMPTY, SH_BOOLEAN, SH_INTEGER, SH_NUMBER, SH_TEXT, SH_NO_MORE } sh_kind;

typedef struct {
    sh_kind kind;
    union {
        bool boolean;
        int64_t integer;
        double number;
        const char *text;
    } value;
} sh_cell;

sh_cell sh_empty(void);
sh_cell sh_boolean(bool value);
sh_cell sh_integer(int64_t value);
sh_cell sh_number(double value);
/* A float as its shortest decimal form says: 0.1f is written 0.1. */
sh_cell sh_float(float value);
/* NULL is an empty cell. The text is copied when its row is added. */
sh_cell sh_text(const char *value);
sh_cell sh_no_more(void);

/* Names the columns, once, before the first row: sh_columns(output, "file", "class"). */
#define sh_columns(output, ...) sh_columns_until_null(output, __VA_ARGS__, (const char *)NULL)
bool sh_columns_until_null(sh_output *output, ...);
bool sh_columns_of(sh_output *output, const char *const *names, size_t count);

/* Adds a row, one cell per column: sh_row(output, sh_text("a.jpg"), sh_integer(3)). Whole numbers among numbers become
 * numbers; other mixtures in a column fail when the output is handed over. */
#define sh_row(output, ...) sh_row_until_no_more(output, __VA_ARGS__, sh_no_more())
bool sh_row_until_no_more(sh_output *output, ...);
bool sh_row_of(sh_output *output, const sh_cell *cells, size_t count);

/* Notes that the file at this index of the mini-batch gave no row, and why. */
bool sh_fail_file(sh_output *output, size_t index, const char *reason);
/* Makes the failure that is kept that file's, and forgets it. False if it is transient: the mini-batch is worth another
 * attempt. */
bool sh_fail_file_alone(sh_output *output, size_t index);

typedef struct sh_tensor sh_tensor;

/* Calls start on every file, then finish with what it gave, so that a model computes meanwhile. A file whose start gives
 * NULL, or whose finish gives false, fails alone; a transient failure ends the mini-batch. finish adds the file's row. */
bool sh_by_file(const char *const *files, size_t count, sh_output *output, sh_tensor *(*start)(const char *file),
                bool (*finish)(const char *file, sh_tensor *started, sh_output *output));

/* ---- Pictures ---- */

typedef struct sh_image sh_image;
typedef struct sh_recipe sh_recipe;
typedef struct sh_model sh_model;
typedef enum { SH_NEAREST, SH_BILINEAR, SH_BICUBIC, SH_LANCZOS } sh_filter;
typedef enum { SH_CHANNELS_FIRST, SH_CHANNELS_LAST } sh_layout;

/* How a picture becomes numbers: stretched to width × height, bicubic and antialiased as Pillow does it, RGB floats in
 * [0, 255], channels first. The functions below change what later calls do. */
sh_recipe *sh_recipe_new(uint32_t width, uint32_t height);
/* What a picture model's only input asks for: its size and layout, bytes where it takes bytes, and else floats in [0, 1]. */
sh_recipe *sh_recipe_for(sh_model *model);
/* Antialiased: Pillow's numbers; not: TensorFlow's and OpenCV's. */
void sh_recipe_filter(sh_recipe *recipe, sh_filter filter, bool antialias);
/* Resize the shorter side to this many pixels and cut the centre, instead of stretching. */
void sh_recipe_shorter_side(sh_recipe *recipe, uint32_t pixels);
/* (pixel × scale − mean) ÷ deviation, by channel. */
void sh_recipe_normalize(sh_recipe *recipe, float scale, const float mean[3], const float deviation[3]);
void sh_recipe_layout(sh_recipe *recipe, sh_layout layout);
void sh_recipe_blue_first(sh_recipe *recipe);
/* Keep bytes as they are, for models that take them; not together with normalize. */
void sh_recipe_bytes(sh_recipe *recipe);
/* Turn the picture as its EXIF orientation says. */
void sh_recipe_upright(sh_recipe *recipe);

/* A file of the mini-batch. Reads its header; pixels are decoded on the host when something needs them. */
sh_image *sh_image_open(const char *file);
uint32_t sh_image_width(sh_image *image);
uint32_t sh_image_height(sh_image *image);
sh_image *sh_image_crop(sh_image *image, uint32_t left, uint32_t top, uint32_t width, uint32_t height);
/* The picture as the recipe says, without a batch dimension. */
sh_tensor *sh_image_tensor(sh_image *image, sh_recipe *recipe);

/* One tensor of all files, with a row for each that could be decoded, in order: the files that `loaded` lists. The others
 * fail in the output. */
sh_tensor *sh_images_load(const char *const *files, size_t count, sh_recipe *recipe, sh_output *output,
                          const char *const **loaded, size_t *loaded_count);

/* ---- Tensors ---- */

typedef enum { SH_UNSIGNED_BYTES, SH_INTEGERS, SH_FLOATS } sh_element;

/* Row-major data; its length is the product of the shape. */
sh_tensor *sh_tensor_of_floats(const uint32_t *shape, size_t dimensions, const float *data);
sh_tensor *sh_tensor_of_bytes(const uint32_t *shape, size_t dimensions, const uint8_t *data);
sh_tensor *sh_tensor_of_integers(const uint32_t *shape, size_t dimensions, const int64_t *data);
/* The size of each dimension, outermost first. */
const uint32_t *sh_tensor_shape(sh_tensor *tensor, size_t *dimensions);
bool sh_tensor_element(sh_tensor *tensor, sh_element *element);
/* All of the data, row-major. Waits for what is still being computed, and fails as that did. */
const float *sh_tensor_floats(sh_tensor *tensor, size_t *count);
const int64_t *sh_tensor_integers(sh_tensor *tensor, size_t *count);
/* Rows start to start + count along the first dimension; a view, not a copy. */
sh_tensor *sh_tensor_slice(sh_tensor *tensor, uint32_t start, uint32_t count);
/* Along the last dimension. */
sh_tensor *sh_tensor_softmax(sh_tensor *tensor);

/* The largest entries of each row, row after row: `width` of them a row. */
typedef struct {
    uint32_t width;
    size_t count;
    const uint32_t *indices;
    const float *scores;
} sh_largest;

/* The k largest of the last dimension, largest first; of equal ones, the lower index. */
bool sh_tensor_top(sh_tensor *tensor, uint32_t k, sh_largest *largest);
/* The largest of the first row. */
bool sh_tensor_best(sh_tensor *tensor, uint32_t *index, float *score);
/* Tensors of one shape, stacked along a new first dimension; joined along their first dimension. */
sh_tensor *sh_stack(sh_tensor *const *parts, size_t count);
sh_tensor *sh_concatenate(sh_tensor *const *parts, size_t count);

/* ---- Models ---- */

typedef struct {
    const char *name;
    /* -1 is a size that is free, as a batch dimension is. */
    const int64_t *shape;
    size_t dimensions;
    sh_element element;
} sh_port;

typedef struct {
    const char *name;
    sh_tensor *tensor;
} sh_named_tensor;

/* A file below the model folder; NULL is the folder's only model. */
sh_model *sh_model_open(const char *path);
const sh_port *sh_model_inputs(sh_model *model, size_t *count);
const sh_port *sh_model_outputs(sh_model *model, size_t *count);
/* The first output for the only input; a picture without a batch dimension is taken as a batch of one. Returns before the
 * result is there. */
sh_tensor *sh_model_predict(sh_model *model, sh_tensor *input);
/* Every output, for inputs by name. */
const sh_named_tensor *sh_model_predict_named(sh_model *model, const sh_named_tensor *inputs, size_t count,
                                              size_t *output_count);

/* ---- Tables ---- */

typedef struct sh_table sh_table;
typedef struct sh_batch sh_batch;
typedef struct sh_writer sh_writer;

typedef struct {
    const char *name;
    size_t rows;
    /* One cell per row; all of one kind, or empty. */
    const sh_cell *cells;
} sh_column;

/* A CSV or Parquet file of the mini-batch, read once from its beginning to its end. Reads the header. */
sh_table *sh_table_open(const char *file);
/* The names of its columns. */
const char *const *sh_table_names(sh_table *table, size_t *count);
/* The next rows, at most this many. At the end NULL, without a failure. */
sh_batch *sh_table_next(sh_table *table, uint32_t rows);
uint32_t sh_batch_rows(sh_batch *batch);
/* Every column, in the table's order. */
const sh_column *sh_batch_columns(sh_batch *batch, size_t *count);
const sh_column *sh_batch_column(sh_batch *batch, const char *name);
/* These columns as floats, rows × columns: booleans are 0 and 1, an empty cell is NaN. Fails for texts. */
sh_tensor *sh_batch_tensor(sh_batch *batch, const char *const *columns, size_t count);

/* A file below the script's output folder, where the deployment gives it one: .csv, .jsonl or .parquet. */
sh_writer *sh_writer_create(const char *file);
/* Further rows: an output of sh_output_new, which is empty afterwards, with its columns. */
bool sh_writer_write(sh_writer *writer, sh_output *rows);
/* Makes the file complete; without it, or after a failure, it is not there. */
bool sh_writer_finish(sh_writer *writer);
/* Rows for a writer. */
sh_output *sh_output_new(void);

/* ---- Where and when ---- */

const char *sh_job(void);
const char *sh_deployment(void);
uint64_t sh_mini_batch(void);
/* 1 for the first attempt. */
uint32_t sh_attempt(void);
/* Milliseconds until this call is stopped. */
uint64_t sh_remaining_ms(void);
/* Ends this instance after the current call, which keeps its result. */
void sh_retire(void);
/* The deployment's tag of that name; NULL if there is none. */
const char *sh_setting(const char *key);
/* The same as a number; `otherwise` where there is none. False if it is no number. */
bool sh_setting_number(const char *key, double otherwise, double *value);
/* The last part of a path: cat.jpg for /input/pets/cat.jpg. */
const char *sh_file_name(const char *path);

typedef enum { SH_DEBUG, SH_INFO, SH_WARNING, SH_ERROR } sh_level;
/* A line of the mini-batch's log, if logging_level lets it through. What is printed is there too. */
void sh_log(sh_level level, const char *format, ...) SH_FORMAT(2);

/* ---- Owning ---- */

/* Zeroed memory that need not be freed. */
void *sh_allocate(size_t count, size_t size);
/* Lets what the functions above gave live on when script_run returns; gives it back. Not for a part of it. */
void *sh_keep(const void *thing);
/* Frees it now. NULL is ignored. */
void sh_close(const void *thing);

#ifdef __cplusplus
}
#endif
#endif
