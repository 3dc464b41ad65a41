/* Rows of plain values → the contract's typed columns; and the two functions that the host calls. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

sh_cell sh_empty(void) { return (sh_cell){.kind = SH_EMPTY}; }
sh_cell sh_boolean(bool value) { return (sh_cell){.kind = SH_BOOLEAN, .value.boolean = value}; }
sh_cell sh_integer(int64_t value) { return (sh_cell){.kind = SH_INTEGER, .value.integer = value}; }
sh_cell sh_number(double value) { return (sh_cell){.kind = SH_NUMBER, .value.number = value}; }
sh_cell sh_no_more(void) { return (sh_cell){.kind = SH_NO_MORE}; }

sh_cell sh_text(const char *value) {
    return value ? (sh_cell){.kind = SH_TEXT, .value.text = value} : sh_empty();
}

sh_cell sh_float(float value) {
    char digits[32];
    /* Nine digits tell every float from its neighbours. A few powers of two, past 1e26 and below 1e-28, get a digit more
     * than they need, since their neighbours are not equally far. */
    for (int count = 1; count <= 9; count++) {
        snprintf(digits, sizeof digits, "%.*g", count, (double)value);
        if (strtof(digits, NULL) == value) return sh_number(strtod(digits, NULL));
    }
    return sh_number(value);
}

/* Room for one more of `size` bytes. */
static void *grown(void *array, size_t count, size_t *room, size_t size) {
    if (count < *room) return array;
    *room = *room ? *room * 2 : 16;
    void *larger = *room <= SIZE_MAX / 2 / size ? realloc(array, *room * size) : NULL;
    if (!larger) abort();
    return larger;
}

static char *duplicate(const char *given) {
    char *made = strdup(given);
    if (!made) abort();
    return made;
}

sh_output *sh_output_new(void) { return hold(OUTPUT, 0, sizeof(sh_output)); }

bool sh_columns_of(sh_output *output, const char *const *names, size_t count) {
    if (!is_given(output)) return false;
    if (output->columns) return sh_fail("the output's columns are named twice");
    output->names = calloc(count ? count : 1, sizeof *output->names);
    if (!output->names) abort();
    output->columns = count;
    for (size_t i = 0; i < count; i++) output->names[i] = duplicate(names[i]);
    return true;
}

bool sh_columns_until_null(sh_output *output, ...) {
    const char *names[256];
    size_t count = 0;
    va_list given;
    va_start(given, output);
    const char *name;
    while ((name = va_arg(given, const char *)) && count < 256) names[count++] = name;
    va_end(given);
    if (name) return sh_fail("more than 256 columns; name them with sh_columns_of");
    return sh_columns_of(output, names, count);
}

bool sh_row_of(sh_output *output, const sh_cell *cells, size_t count) {
    if (!is_given(output)) return false;
    if (count != output->columns) {
        return sh_fail("a row has %zu values, and the output %zu columns", count, output->columns);
    }
    output->cells = grown(output->cells, output->rows, &output->room, count * sizeof *cells);
    for (size_t i = 0; i < count; i++) {
        sh_cell *cell = &output->cells[output->rows * count + i];
        *cell = cells[i];
        if (cell->kind == SH_TEXT) cell->value.text = duplicate(cell->value.text);
    }
    output->rows++;
    return true;
}

bool sh_row_until_no_more(sh_output *output, ...) {
    sh_cell cells[256];
    size_t count = 0;
    va_list given;
    va_start(given, output);
    sh_cell cell;
    while ((cell = va_arg(given, sh_cell)).kind != SH_NO_MORE && count < 256) cells[count++] = cell;
    va_end(given);
    if (cell.kind != SH_NO_MORE) return sh_fail("more than 256 values in a row; hand them over with sh_row_of");
    return sh_row_of(output, cells, count);
}

bool sh_fail_file(sh_output *output, size_t index, const char *reason) {
    if (!is_given(output)) return false;
    output->failed = grown(output->failed, output->failed_count, &output->failed_room, sizeof *output->failed);
    output->failed[output->failed_count++] = (struct failed_file){(uint32_t)index, duplicate(reason ? reason : "")};
    return true;
}

bool sh_by_file(const char *const *files, size_t count, sh_output *output, sh_tensor *(*start)(const char *file),
                bool (*finish)(const char *file, sh_tensor *started, sh_output *output)) {
    sh_tensor **started = sh_allocate(count, sizeof *started);
    for (size_t i = 0; i < count; i++) {
        started[i] = start(files[i]);
        if (sh_failure()) started[i] = NULL;
        if (!started[i] && !sh_fail_file_alone(output, i)) return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (!started[i] || (finish(files[i], started[i], output) && !sh_failure())) continue;
        if (!sh_fail_file_alone(output, i)) return false;
    }
    return true;
}

void output_clear_rows(sh_output *output) {
    for (size_t i = 0; i < output->rows * output->columns; i++) {
        if (output->cells[i].kind == SH_TEXT) free((void *)(uintptr_t)output->cells[i].value.text);
    }
    output->rows = 0;
}

void output_free(sh_output *output) {
    output_clear_rows(output);
    for (size_t i = 0; i < output->columns; i++) free((void *)(uintptr_t)output->names[i]);
    for (size_t i = 0; i < output->failed_count; i++) free(output->failed[i].reason);
    free(output->names);
    free(output->cells);
    free(output->failed);
    *output = (sh_output){0};
}

/* The one type that all cells of a column fit, or SH_NO_MORE. */
static sh_kind common_kind(const sh_output *output, size_t column) {
    bool found[SH_NO_MORE] = {false};
    for (size_t row = 0; row < output->rows; row++) found[output->cells[row * output->columns + column].kind] = true;
    if (found[SH_INTEGER] && found[SH_NUMBER]) found[SH_INTEGER] = false;
    int kinds = found[SH_BOOLEAN] + found[SH_INTEGER] + found[SH_NUMBER] + found[SH_TEXT];
    if (kinds > 1) return SH_NO_MORE;
    return found[SH_BOOLEAN] ? SH_BOOLEAN : found[SH_NUMBER] ? SH_NUMBER : found[SH_TEXT] ? SH_TEXT : SH_INTEGER;
}

/* Memory that the generated code frees: what is empty it leaves alone. */
static void *array(size_t count, size_t size) {
    if (!count) return NULL;
    void *made = calloc(count, size);
    if (!made) abort();
    return made;
}

static void fill(const sh_output *output, size_t number, sh_kind kind, scorehost_script_types_column_t *column) {
    size_t rows = output->rows;
    scorehost_script_types_cells_t *cells = &column->cells;
    switch (kind) {
    case SH_BOOLEAN:
        cells->tag = SCOREHOST_SCRIPT_TYPES_CELLS_BOOLEANS;
        cells->val.booleans = (scoring_script_list_bool_t){array(rows, sizeof(bool)), rows};
        break;
    case SH_NUMBER:
        cells->tag = SCOREHOST_SCRIPT_TYPES_CELLS_NUMBERS;
        cells->val.numbers = (scoring_script_list_f64_t){array(rows, sizeof(double)), rows};
        break;
    case SH_TEXT:
        cells->tag = SCOREHOST_SCRIPT_TYPES_CELLS_TEXTS;
        cells->val.texts = (scoring_script_list_string_t){array(rows, sizeof(text)), rows};
        break;
    default:
        cells->tag = SCOREHOST_SCRIPT_TYPES_CELLS_INTEGERS;
        cells->val.integers = (scoring_script_list_s64_t){array(rows, sizeof(int64_t)), rows};
    }
    column->nulls.ptr = array(rows, sizeof(uint32_t));
    for (size_t row = 0; row < rows; row++) {
        const sh_cell *cell = &output->cells[row * output->columns + number];
        if (cell->kind == SH_EMPTY) {
            column->nulls.ptr[column->nulls.len++] = (uint32_t)row;
        } else if (kind == SH_BOOLEAN) {
            cells->val.booleans.ptr[row] = cell->value.boolean;
        } else if (kind == SH_NUMBER) {
            cells->val.numbers.ptr[row] = cell->kind == SH_NUMBER ? cell->value.number : (double)cell->value.integer;
        } else if (kind == SH_TEXT) {
            cells->val.texts.ptr[row] = owned(cell->value.text);
        } else {
            cells->val.integers.ptr[row] = cell->value.integer;
        }
    }
    if (!column->nulls.len) {
        free(column->nulls.ptr);
        column->nulls.ptr = NULL;
    }
}

bool output_columns(const sh_output *output, scorehost_script_types_list_column_t *columns) {
    *columns = (scorehost_script_types_list_column_t){0};
    for (size_t i = 0; i < output->columns; i++) {
        if (common_kind(output, i) == SH_NO_MORE) {
            return sh_fail("column `%s` mixes values of several types", output->names[i]);
        }
    }
    columns->ptr = array(output->columns, sizeof *columns->ptr);
    columns->len = output->columns;
    for (size_t i = 0; i < output->columns; i++) {
        columns->ptr[i].name = owned(output->names[i]);
        fill(output, i, common_kind(output, i), &columns->ptr[i]);
    }
    return true;
}

static int by_index(const void *a, const void *b) {
    uint32_t first = ((const struct failed_file *)a)->index, second = ((const struct failed_file *)b)->index;
    return (first > second) - (first < second);
}

bool exports_scorehost_script_script_init(failure *given) {
    sh_forget_failure();
    if (!script_init() || sh_failure()) return give_failure(given);
    keep_all();
    return true;
}

bool exports_scorehost_script_script_run(scoring_script_list_string_t *mini_batch, scorehost_script_types_output_t *result,
                                         failure *given) {
    const char **files = sh_allocate(mini_batch->len, sizeof *files);
    for (size_t i = 0; i < mini_batch->len; i++) files[i] = copied(mini_batch->ptr[i]);
    size_t count = mini_batch->len;
    scoring_script_list_string_free(mini_batch);
    sh_output *output = sh_output_new();
    sh_forget_failure();
    /* A failure that was not asked for is one too: no row is lost in silence. */
    bool succeeded = script_run(files, count, output) && !sh_failure() && output_columns(output, &result->columns);
    if (succeeded) {
        qsort(output->failed, output->failed_count, sizeof *output->failed, by_index);
        result->failed.ptr = array(output->failed_count, sizeof *result->failed.ptr);
        result->failed.len = output->failed_count;
        for (size_t i = 0; i < output->failed_count; i++) {
            result->failed.ptr[i].index = output->failed[i].index;
            result->failed.ptr[i].reason = owned(output->failed[i].reason);
        }
    }
    close_all();
    return succeeded || give_failure(given);
}

/* The generated code refers to an object file with the type of the world; `scorehost build` adds that type itself. */
void __component_type_object_force_link_scoring_script(void);
void __component_type_object_force_link_scoring_script(void) {}
