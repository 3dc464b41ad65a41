/* Does what the deployment's tag `scenario` says; tests/languages.rs runs it. Every language has this script, and gives the
 * same bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "scorehost.h"

typedef const char *const *files_t;

static bool names(files_t files, size_t count, sh_output *output) {
    sh_columns(output, "file");
    for (size_t i = 0; i < count; i++) sh_row(output, sh_text(sh_file_name(files[i])));
    return true;
}

/* All of a file, ended by a zero. */
static char *read_file(const char *file, size_t *size) {
    FILE *stream = fopen(file, "rb");
    if (!stream) return sh_fail("%s cannot be opened", file), (char *)NULL;
    fseek(stream, 0, SEEK_END);
    *size = (size_t)ftell(stream);
    rewind(stream);
    char *text = (char *)sh_allocate(*size + 1, 1);
    if (fread(text, 1, *size, stream) != *size) sh_fail("%s cannot be read", file);
    fclose(stream);
    return text;
}

/* The characters of UTF-8: its bytes but those that go on with one. */
static int64_t characters(const char *text) {
    int64_t count = 0;
    for (; *text; text++) count += ((unsigned char)*text & 0xC0) != 0x80;
    return count;
}

/* Several rows a file: its words, and how many characters each has. */
static bool words(files_t files, size_t count, sh_output *output) {
    sh_columns(output, "file", "word", "characters");
    for (size_t i = 0; i < count; i++) {
        size_t size;
        char *text = read_file(files[i], &size);
        if (!text) return false;
        /* No text begins so, and that is the only other file here. */
        if (size && (unsigned char)text[0] == 0xFF) {
            sh_fail_file(output, i, "not text");
            continue;
        }
        for (char *word = strtok(text, " \n"); word; word = strtok(NULL, " \n"))
            sh_row(output, sh_text(sh_file_name(files[i])), sh_text(word), sh_integer(characters(word)));
    }
    return true;
}

/* Cells of every kind, empty ones, and whole numbers among numbers. */
static bool cells(files_t files, size_t count, sh_output *output) {
    sh_columns(output, "file", "whole", "number", "maybe", "flag", "text", "nothing");
    for (size_t i = 0; i < count; i++) {
        sh_cell name = sh_text(sh_file_name(files[i]));
        sh_row(output, name, sh_integer(1), sh_integer(3), sh_empty(), sh_boolean(true), sh_text("plain"), sh_empty());
        sh_row(output, name, sh_integer(-9007199254740993), sh_number(0.1), sh_integer(7), sh_boolean(false),
               sh_text("\"quotes\", commas\nand lines"), sh_empty());
        sh_row(output, name, sh_integer(INT64_MAX), sh_number(1e300), sh_empty(), sh_empty(), sh_text(""), sh_empty());
    }
    return true;
}

/* A declared failure of each kind: one that stays, one that passes, one of a file. */
static bool failures(files_t files, size_t count, sh_output *output) {
    if (sh_mini_batch() == 1) return sh_fail("not this one");
    if (sh_mini_batch() == 2 && sh_attempt() == 1) return sh_fail_transient("not yet");
    if (sh_mini_batch() == 3) return sh_fail_transient("never");
    sh_columns(output, "file", "mini_batch", "attempt");
    for (size_t i = 0; i < count; i++) {
        const char *name = sh_file_name(files[i]);
        if (strncmp(name, "bad", 3) == 0) sh_fail_file(output, i, "it is called bad");
        else sh_row(output, sh_text(name), sh_integer((int64_t)sh_mini_batch()), sh_integer(sh_attempt()));
    }
    return true;
}

/* The path of a file's name without its ending, with another, below a folder. */
static const char *renamed(const char *folder, const char *file, const char *ending) {
    const char *name = sh_file_name(file), *dot = strrchr(name, '.');
    size_t size = strlen(folder) + strlen(name) + strlen(ending) + 1;
    char *path = (char *)sh_allocate(size, 1);
    snprintf(path, size, "%s%.*s%s", folder, dot ? (int)(dot - name) : (int)strlen(name), name, ending);
    return path;
}

static FILE *create(const char *path) {
    FILE *stream = fopen(path, "wb");
    if (!stream) sh_fail("%s cannot be created", path);
    return stream;
}

/* A file of JSON lines for each input, in a folder: a line for each of its lines. */
static bool own_files(files_t files, size_t count, sh_output *output) {
    char folder[256];
    snprintf(folder, sizeof folder, "%s/lines/", getenv("SCOREHOST_OUTPUT_DIR"));
    mkdir(folder, 0777);
    for (size_t i = 0; i < count; i++) {
        size_t size;
        char *text = read_file(files[i], &size);
        FILE *stream = text ? create(renamed(folder, files[i], ".jsonl")) : NULL;
        if (!stream) return false;
        int number = 0;
        for (char *line = text; line < text + size; number++) {
            char *end = strchr(line, '\n');
            if (end) *end = 0;
            char *next = end ? end + 1 : text + size;
            int found = 0;
            for (char *word = strtok(line, " "); word; word = strtok(NULL, " ")) found++;
            fprintf(stream, "{\"line\": %d, \"words\": %d}\n", number + 1, found);
            line = next;
        }
        fclose(stream);
    }
    return names(files, count, output);
}

/* Writes a file, named by mini-batch and attempt; the first attempt at each fails, and all attempts at the second. */
static bool once_more(files_t files, size_t count, sh_output *output) {
    int number = (int)sh_mini_batch(), attempt = (int)sh_attempt();
    char path[256];
    snprintf(path, sizeof path, "%s/%d.%d.txt", getenv("SCOREHOST_OUTPUT_DIR"), number, attempt);
    FILE *stream = create(path);
    if (!stream) return false;
    fputs("written", stream);
    fclose(stream);
    if (number == 1 || attempt == 1) return sh_fail_transient("once more");
    return names(files, count, output);
}

/* A row for each text of a table, and how many characters it has. */
static bool texts(files_t files, size_t count, sh_output *output) {
    sh_columns(output, "file", "text", "characters");
    for (size_t i = 0; i < count; i++) {
        sh_table *table = sh_table_open(files[i]);
        for (sh_batch *batch; (batch = sh_table_next(table, 2)) != NULL;) {
            const sh_column *column = sh_batch_column(batch, "text");
            for (size_t row = 0; column && row < column->rows; row++) {
                sh_cell text = column->cells[row];
                sh_cell length = text.kind == SH_TEXT ? sh_integer(characters(text.value.text)) : sh_empty();
                sh_row(output, sh_text(sh_file_name(files[i])), text, length);
            }
        }
    }
    return !sh_failure();
}

/* Calls each with the records of a table and a prediction for each, some at a time. */
static bool scored(const char *file, void *kept,
                   void (*each)(void *kept, const char *file, const sh_column *columns, size_t count, const float *predictions)) {
    const char *const inputs[] = {"height", "width"};
    sh_model *model = sh_model_open(NULL);
    sh_table *table = sh_table_open(file);
    for (sh_batch *batch; (batch = sh_table_next(table, 2)) != NULL;) {
        size_t count, predicted;
        const sh_column *columns = sh_batch_columns(batch, &count);
        const float *predictions = sh_tensor_floats(sh_model_predict(model, sh_batch_tensor(batch, inputs, 2)), &predicted);
        if (!columns || !predictions) return false;
        each(kept, file, columns, count, predictions);
    }
    return !sh_failure();
}

#define MOST_COLUMNS 32

/* Adds a batch's records to an output: the file's name first, if that is wanted, and the prediction last. */
static void add(sh_output *output, const char *file, const sh_column *columns, size_t count, const float *predictions) {
    sh_cell row[MOST_COLUMNS];
    for (size_t i = 0; i < columns[0].rows; i++) {
        size_t cell = 0;
        if (file) row[cell++] = sh_text(sh_file_name(file));
        for (size_t column = 0; column < count; column++) row[cell++] = columns[column].cells[i];
        row[cell++] = sh_float(predictions[i]);
        sh_row_of(output, row, cell);
    }
}

static void name_columns(sh_output *output, bool with_file, const sh_column *columns, size_t count) {
    const char *all[MOST_COLUMNS];
    size_t column = 0;
    if (with_file) all[column++] = "file";
    for (size_t i = 0; i < count; i++) all[column++] = columns[i].name;
    all[column++] = "prediction";
    sh_columns_of(output, all, column);
}

struct rows {
    sh_output *output;
    bool named;
};

static void add_to_rows(void *kept, const char *file, const sh_column *columns, size_t count, const float *predictions) {
    struct rows *rows = (struct rows *)kept;
    if (!rows->named) name_columns(rows->output, true, columns, count);
    rows->named = true;
    add(rows->output, file, columns, count, predictions);
}

/* Each record of the tables, with its file and its prediction. */
static bool rows(files_t files, size_t count, sh_output *output) {
    struct rows kept = {output, false};
    for (size_t i = 0; i < count; i++)
        if (!scored(files[i], &kept, add_to_rows)) return false;
    return true;
}

static void add_to_parquet(void *kept, const char *file, const sh_column *columns, size_t count, const float *predictions) {
    sh_output *rows = sh_output_new();
    (void)file;
    name_columns(rows, false, columns, count);
    add(rows, NULL, columns, count, predictions);
    sh_writer_write((sh_writer *)kept, rows);
}

/* A Parquet file for each table: its records with their predictions. */
static bool parquet(files_t files, size_t count, sh_output *output) {
    for (size_t i = 0; i < count; i++) {
        sh_writer *writer = sh_writer_create(renamed("", files[i], ".parquet"));
        if (!writer || !scored(files[i], writer, add_to_parquet) || !sh_writer_finish(writer)) return false;
    }
    return names(files, count, output);
}

struct classes {
    sh_output *high, *low;
};

static void add_to_class(void *kept, const char *file, const sh_column *columns, size_t count, const float *predictions) {
    struct classes *classes = (struct classes *)kept;
    (void)file;
    for (size_t column = 0; column < count; column++) {
        if (strcmp(columns[column].name, "id")) continue;
        for (size_t row = 0; row < columns[column].rows; row++) {
            sh_output **members = predictions[row] >= 3 ? &classes->high : &classes->low;
            if (!*members) {
                *members = sh_output_new();
                sh_columns(*members, "id", "prediction");
            }
            sh_row(*members, columns[column].cells[row], sh_float(predictions[row]));
        }
    }
}

/* Begins a file that the host writes, and writes these rows to it. */
static bool write_rows(const char *path, sh_output *rows, bool finished) {
    sh_writer *writer = sh_writer_create(path);
    return writer && sh_writer_write(writer, rows) && (!finished || sh_writer_finish(writer));
}

/* A file for each class and mini-batch, in folders of classes. */
static bool partitions(files_t files, size_t count, sh_output *output) {
    struct classes classes = {NULL, NULL};
    char path[64];
    for (size_t i = 0; i < count; i++)
        if (!scored(files[i], &classes, add_to_class)) return false;
    snprintf(path, sizeof path, "class=high/part-%d.csv", (int)sh_mini_batch());
    if (classes.high && !write_rows(path, classes.high, true)) return false;
    snprintf(path, sizeof path, "class=low/part-%d.csv", (int)sh_mini_batch());
    if (classes.low && !write_rows(path, classes.low, true)) return false;
    return names(files, count, output);
}

/* As once_more, with files that the host writes; one of them is never finished. */
static bool written_once_more(files_t files, size_t count, sh_output *output) {
    int number = (int)sh_mini_batch(), attempt = (int)sh_attempt();
    const char *endings[] = {"jsonl", "open.jsonl"};
    for (int i = 0; i < 2; i++) {
        char path[64];
        sh_output *row = sh_output_new();
        sh_columns(row, "attempt");
        sh_row(row, sh_integer(attempt));
        snprintf(path, sizeof path, "%d.%d.%s", number, attempt, endings[i]);
        if (!write_rows(path, row, i == 0)) return false;
    }
    if (number == 1 || attempt == 1) return sh_fail_transient("once more");
    return names(files, count, output);
}

#define FOUR(x) x, x, x, x
#define AS_MANY_AS_FIT(x) FOUR(FOUR(FOUR(FOUR(x))))

/* Ends as the file is called: here and in Go, where a language's own runtime has no exceptions to tell of. */
static bool ends_badly(files_t files, size_t count, sh_output *output) {
    const char *how = sh_file_name(files[0]);
    if (strcmp(how, "abort") == 0) {
        fputs("script.c: boom\n", stderr);
        abort();
    }
    volatile int zero = 0;
    if (strcmp(how, "divide") == 0) return sh_fail("%d", 10 / zero);
    if (strcmp(how, "exit") == 0) exit(3);
    if (strcmp(how, "columns") == 0) return sh_columns(output, AS_MANY_AS_FIT("a"), "a");
    bool fits = strcmp(how, "values-that-fit") == 0;
    if (fits || strcmp(how, "values") == 0) {
        char given[256][8];
        const char *columns[256];
        for (int i = 0; i < 256; i++) {
            snprintf(given[i], sizeof given[i], "%d", i);
            columns[i] = given[i];
        }
        sh_columns_of(output, columns, 256);
        if (fits) return sh_row(output, AS_MANY_AS_FIT(sh_integer(7)));
        return sh_row(output, AS_MANY_AS_FIT(sh_integer(7)), sh_integer(8));
    }
    return names(files, count, output);
}

static const struct {
    const char *name;
    bool (*run)(files_t files, size_t count, sh_output *output);
} scenarios[] = {
    {"words", words},
    {"cells", cells},
    {"failures", failures},
    {"own-files", own_files},
    {"once-more", once_more},
    {"texts", texts},
    {"rows", rows},
    {"parquet", parquet},
    {"partitions", partitions},
    {"written-once-more", written_once_more},
    {"ends-badly", ends_badly},
};

bool script_init(void) { return true; }

bool script_run(const char *const *files, size_t count, sh_output *output) {
    const char *wanted = sh_setting("scenario");
    for (size_t i = 0; wanted && i < sizeof scenarios / sizeof *scenarios; i++)
        if (strcmp(scenarios[i].name, wanted) == 0) return scenarios[i].run(files, count, output);
    return sh_fail("there is no scenario `%s`", wanted ? wanted : "");
}
