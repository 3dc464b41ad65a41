/* Tables, and where and when a script runs. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

typedef scorehost_script_tables_borrow_table_t borrow_table;
typedef scorehost_script_tables_borrow_batch_t borrow_batch;
typedef scorehost_script_tables_borrow_writer_t borrow_writer;

void close_table_thing(held_kind kind, int32_t handle) {
    if (kind == TABLE) scorehost_script_tables_table_drop_own((scorehost_script_tables_own_table_t){handle});
    if (kind == BATCH) scorehost_script_tables_batch_drop_own((scorehost_script_tables_own_batch_t){handle});
    if (kind == WRITER) scorehost_script_tables_writer_drop_own((scorehost_script_tables_own_writer_t){handle});
}

sh_table *sh_table_open(const char *file) {
    if (!is_given(file)) return NULL;
    text path = borrowed(file);
    scorehost_script_tables_own_table_t made;
    failure given;
    if (scorehost_script_tables_static_table_open(&path, &made, &given)) return hold(TABLE, made.__handle, 0);
    take_failure(&given);
    return NULL;
}

const char *const *sh_table_names(sh_table *table, size_t *count) {
    *count = 0;
    if (!is_given(table)) return NULL;
    scorehost_script_tables_list_field_t fields;
    scorehost_script_tables_method_table_fields((borrow_table){handle_of(table)}, &fields);
    const char **names = sh_allocate(fields.len, sizeof *names);
    for (size_t i = 0; i < fields.len; i++) names[i] = copied(fields.ptr[i].name);
    *count = fields.len;
    scorehost_script_tables_list_field_free(&fields);
    return names;
}

sh_batch *sh_table_next(sh_table *table, uint32_t rows) {
    if (!is_given(table)) return NULL;
    scorehost_script_tables_option_own_batch_t made;
    failure given;
    if (!scorehost_script_tables_method_table_next((borrow_table){handle_of(table)}, rows, &made, &given)) {
        take_failure(&given);
        return NULL;
    }
    return made.is_some ? hold(BATCH, made.val.__handle, 0) : NULL;
}

uint32_t sh_batch_rows(sh_batch *batch) {
    return is_given(batch) ? scorehost_script_tables_method_batch_rows((borrow_batch){handle_of(batch)}) : 0;
}

/* A column of the host's as cells; the host's is left to be freed. */
static sh_column column_of(const scorehost_script_types_column_t *given) {
    /* Lists of all types have their length at the same place. */
    size_t rows = given->cells.val.texts.len;
    sh_cell *cells = sh_allocate(rows, sizeof *cells);
    for (size_t row = 0; row < rows; row++) {
        switch (given->cells.tag) {
        case SCOREHOST_SCRIPT_TYPES_CELLS_BOOLEANS: cells[row] = sh_boolean(given->cells.val.booleans.ptr[row]); break;
        case SCOREHOST_SCRIPT_TYPES_CELLS_INTEGERS: cells[row] = sh_integer(given->cells.val.integers.ptr[row]); break;
        case SCOREHOST_SCRIPT_TYPES_CELLS_NUMBERS: cells[row] = sh_number(given->cells.val.numbers.ptr[row]); break;
        default: cells[row] = sh_text(copied(given->cells.val.texts.ptr[row]));
        }
    }
    for (size_t i = 0; i < given->nulls.len; i++) {
        if (given->nulls.ptr[i] < rows) cells[given->nulls.ptr[i]] = sh_empty();
    }
    return (sh_column){copied(given->name), rows, cells};
}

const sh_column *sh_batch_columns(sh_batch *batch, size_t *count) {
    *count = 0;
    if (!is_given(batch)) return NULL;
    scorehost_script_tables_list_column_t all;
    failure given;
    if (!scorehost_script_tables_method_batch_columns((borrow_batch){handle_of(batch)}, &all, &given)) {
        take_failure(&given);
        return NULL;
    }
    sh_column *made = sh_allocate(all.len, sizeof *made);
    for (size_t i = 0; i < all.len; i++) made[i] = column_of(&all.ptr[i]);
    *count = all.len;
    scorehost_script_tables_list_column_free(&all);
    return made;
}

const sh_column *sh_batch_column(sh_batch *batch, const char *name) {
    if (!is_given(batch) || !is_given(name)) return NULL;
    text given_name = borrowed(name);
    scorehost_script_tables_column_t column;
    failure given;
    if (!scorehost_script_tables_method_batch_column((borrow_batch){handle_of(batch)}, &given_name, &column, &given)) {
        take_failure(&given);
        return NULL;
    }
    sh_column *made = sh_allocate(1, sizeof *made);
    *made = column_of(&column);
    scorehost_script_tables_column_free(&column);
    return made;
}

sh_tensor *sh_batch_tensor(sh_batch *batch, const char *const *columns, size_t count) {
    if (!is_given(batch)) return NULL;
    scoring_script_list_string_t names = {sh_allocate(count, sizeof(text)), count};
    for (size_t i = 0; i < count; i++) names.ptr[i] = borrowed(columns[i]);
    scorehost_script_tables_own_tensor_t made;
    failure given;
    if (scorehost_script_tables_method_batch_tensor((borrow_batch){handle_of(batch)}, &names, &made, &given)) {
        return hold(TENSOR, made.__handle, 0);
    }
    take_failure(&given);
    return NULL;
}

sh_writer *sh_writer_create(const char *file) {
    if (!is_given(file)) return NULL;
    text path = borrowed(file);
    scorehost_script_tables_own_writer_t made;
    failure given;
    if (scorehost_script_tables_static_writer_create(&path, &made, &given)) return hold(WRITER, made.__handle, 0);
    take_failure(&given);
    return NULL;
}

bool sh_writer_write(sh_writer *writer, sh_output *rows) {
    scorehost_script_types_list_column_t columns;
    if (!is_given(writer) || !is_given(rows) || !output_columns(rows, &columns)) return false;
    scorehost_script_tables_list_column_t all = {columns.ptr, columns.len};
    failure given;
    bool succeeded = scorehost_script_tables_method_writer_write((borrow_writer){handle_of(writer)}, &all, &given);
    scorehost_script_types_list_column_free(&columns);
    output_clear_rows(rows);
    return succeeded || take_failure(&given);
}

bool sh_writer_finish(sh_writer *writer) {
    if (!is_given(writer)) return false;
    failure given;
    bool succeeded = scorehost_script_tables_method_writer_finish((borrow_writer){handle_of(writer)}, &given);
    return succeeded || take_failure(&given);
}

const char *sh_job(void) {
    text given;
    scorehost_script_context_job(&given);
    return taken(&given);
}

const char *sh_deployment(void) {
    text given;
    scorehost_script_context_deployment(&given);
    return taken(&given);
}

uint64_t sh_mini_batch(void) { return scorehost_script_context_mini_batch(); }
uint32_t sh_attempt(void) { return scorehost_script_context_attempt(); }
uint64_t sh_remaining_ms(void) { return scorehost_script_context_remaining_ms(); }
void sh_retire(void) { scorehost_script_context_retire(); }

const char *sh_setting(const char *key) {
    if (!is_given(key)) return NULL;
    text name = borrowed(key), given;
    return scorehost_script_context_setting(&name, &given) ? taken(&given) : NULL;
}

bool sh_setting_number(const char *key, double otherwise, double *value) {
    *value = otherwise;
    const char *given = sh_setting(key);
    if (!given) return sh_failure() == NULL;
    char *end;
    double number = strtod(given, &end);
    if (end == given || *end) return sh_fail("setting `%s` is `%s`, which is not a number", key, given);
    *value = number;
    return true;
}

const char *sh_file_name(const char *path) {
    const char *slash = path ? strrchr(path, '/') : NULL;
    return slash ? slash + 1 : path;
}

void sh_log(sh_level level, const char *format, ...) {
    char line[4096];
    va_list values;
    va_start(values, format);
    vsnprintf(line, sizeof line, format, values);
    va_end(values);
    text message = borrowed(line);
    scorehost_script_log_write((uint8_t)level, &message);
}
