/* What the SDK's files share; nothing for scripts. */
#ifndef SCOREHOST_INTERNAL_H
#define SCOREHOST_INTERNAL_H

#include "generated/scoring_script.h"
#include "scorehost.h"

typedef scoring_script_string_t text;
typedef scorehost_script_types_failure_t failure;

/* What a script can hold. */
typedef enum { MEMORY, OUTPUT, TENSOR, IMAGE, RECIPE, MODEL, TABLE, BATCH, WRITER } held_kind;

/* Heads whatever the SDK hands out, so that all of it can be found and freed when a run ends. */
typedef struct held {
    _Alignas(16) struct held *previous;
    struct held *next;
    held_kind kind;
    bool is_kept;
    /* Of the host's thing. */
    int32_t handle;
} held;

/* Zeroed memory behind such a head, as the thing that is handed out. */
void *hold(held_kind kind, int32_t handle, size_t bytes);
/* The host's handle of a thing. */
int32_t handle_of(const void *thing);
/* Whether a thing was given; a failure is noted if it was not. */
bool is_given(const void *thing);
/* Notes the host's failure, and frees it. Gives false. */
bool take_failure(failure *given);
/* The failure that is kept as the host's, which is forgotten then. Gives false. */
bool give_failure(failure *given);
/* Ends what is not kept. */
void close_all(void);
void keep_all(void);

/* A text for the host, in UTF-8, without a copy where it is that already. Not to be freed. */
text borrowed(const char *given);
/* A text for the host that it frees. */
text owned(const char *given);
/* The host's text as C's, until the run ends; the host's is freed. */
const char *taken(text *given);
/* The same without freeing it. */
const char *copied(text given);

struct sh_output {
    const char **names;
    size_t columns;
    /* Row after row. */
    sh_cell *cells;
    size_t rows, room;
    struct failed_file {
        uint32_t index;
        char *reason;
    } *failed;
    size_t failed_count, failed_room;
};

/* The rows as columns that the generated code frees; false with a failure if a column mixes types. */
bool output_columns(const sh_output *output, scorehost_script_types_list_column_t *columns);
/* Frees what an output holds. */
void output_clear_rows(sh_output *output);
void output_free(sh_output *output);

/* Frees the host's side of a table, batch or writer; the other things are freed where the list of things is. */
void close_table_thing(held_kind kind, int32_t handle);

#endif
