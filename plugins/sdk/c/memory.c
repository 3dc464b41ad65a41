/* What a script holds, and how it fails. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static held *newest;
static struct {
    bool is_there, is_transient;
    char reason[1024];
} first;

void *hold(held_kind kind, int32_t handle, size_t bytes) {
    /* The host ends the instance where memory passes its limit; this is 32 bits' own. */
    held *head = bytes < SIZE_MAX - sizeof(held) ? calloc(1, sizeof(held) + bytes) : NULL;
    if (!head) abort();
    *head = (held){.previous = newest, .kind = kind, .handle = handle};
    if (newest) newest->next = head;
    newest = head;
    return head + 1;
}

static held *head_of(const void *thing) { return (held *)(uintptr_t)thing - 1; }

int32_t handle_of(const void *thing) { return head_of(thing)->handle; }

void *sh_allocate(size_t count, size_t size) {
    if (size && count > SIZE_MAX / size) abort();
    return hold(MEMORY, 0, count * size);
}

void *sh_keep(const void *thing) {
    if (thing) head_of(thing)->is_kept = true;
    return (void *)(uintptr_t)thing;
}

static void drop(held *head) {
    int32_t handle = head->handle;
    switch (head->kind) {
    case MEMORY: break;
    case OUTPUT: output_free((sh_output *)(head + 1)); break;
    case TENSOR: scorehost_script_tensors_tensor_drop_own((scorehost_script_tensors_own_tensor_t){handle}); break;
    case IMAGE: scorehost_script_images_image_drop_own((scorehost_script_images_own_image_t){handle}); break;
    case RECIPE: scorehost_script_images_recipe_drop_own((scorehost_script_images_own_recipe_t){handle}); break;
    case MODEL: scorehost_script_models_model_drop_own((scorehost_script_models_own_model_t){handle}); break;
    case TABLE:
    case BATCH:
    case WRITER: close_table_thing(head->kind, handle); break;
    }
}

void sh_close(const void *thing) {
    if (!thing) return;
    held *head = head_of(thing);
    if (head->previous) head->previous->next = head->next;
    if (head->next) head->next->previous = head->previous;
    if (newest == head) newest = head->previous;
    drop(head);
    free(head);
}

void close_all(void) {
    for (held *head = newest, *previous; head; head = previous) {
        previous = head->previous;
        if (!head->is_kept) sh_close(head + 1);
    }
}

void keep_all(void) {
    for (held *head = newest; head; head = head->previous) head->is_kept = true;
}

static bool note(bool is_transient, const char *format, va_list values) {
    if (!first.is_there) {
        first.is_there = true;
        first.is_transient = is_transient;
        vsnprintf(first.reason, sizeof first.reason, format, values);
    }
    return false;
}

bool sh_fail(const char *format, ...) {
    va_list values;
    va_start(values, format);
    note(false, format, values);
    va_end(values);
    return false;
}

bool sh_fail_transient(const char *format, ...) {
    va_list values;
    va_start(values, format);
    note(true, format, values);
    va_end(values);
    return false;
}

const char *sh_failure(void) { return first.is_there ? first.reason : NULL; }

void sh_forget_failure(void) { first.is_there = false; }

bool is_given(const void *thing) { return thing ? true : sh_fail("NULL was given where there must be something"); }

bool take_failure(failure *given) {
    text *reason = &given->val.permanent;
    int length = reason->len < sizeof first.reason ? (int)reason->len : (int)sizeof first.reason;
    if (given->tag == SCOREHOST_SCRIPT_TYPES_FAILURE_TRANSIENT) {
        sh_fail_transient("%.*s", length, (const char *)reason->ptr);
    } else {
        sh_fail("%.*s", length, (const char *)reason->ptr);
    }
    scorehost_script_types_failure_free(given);
    return false;
}

bool give_failure(failure *given) {
    const char *reason = first.is_there ? first.reason : "the script gave no reason: it returned false without sh_fail";
    bool is_transient = first.is_there && first.is_transient;
    given->tag = is_transient ? SCOREHOST_SCRIPT_TYPES_FAILURE_TRANSIENT : SCOREHOST_SCRIPT_TYPES_FAILURE_PERMANENT;
    given->val.permanent = owned(reason);
    sh_forget_failure();
    return false;
}

bool sh_fail_file_alone(sh_output *output, size_t index) {
    if (first.is_there && first.is_transient) return false;
    sh_fail_file(output, index, first.is_there ? first.reason : "the script gave no reason");
    sh_forget_failure();
    return true;
}

/* How many bytes of a valid UTF-8 character `at` begins; 0 if it does not. */
static size_t character(const unsigned char *at) {
    static const struct {
        unsigned char from, to, second_from, second_to, length;
    } forms[] = {
        {0x01, 0x7F, 0, 0xFF, 1},       {0xC2, 0xDF, 0x80, 0xBF, 2},    {0xE0, 0xE0, 0xA0, 0xBF, 3},
        {0xE1, 0xEC, 0x80, 0xBF, 3},    {0xED, 0xED, 0x80, 0x9F, 3},    {0xEE, 0xEF, 0x80, 0xBF, 3},
        {0xF0, 0xF0, 0x90, 0xBF, 4},    {0xF1, 0xF3, 0x80, 0xBF, 4},    {0xF4, 0xF4, 0x80, 0x8F, 4},
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (*at < forms[i].from || *at > forms[i].to) continue;
        size_t length = forms[i].length;
        if (length > 1 && (at[1] < forms[i].second_from || at[1] > forms[i].second_to)) return 0;
        for (size_t next = 2; next < length; next++) {
            if (at[next] < 0x80 || at[next] > 0xBF) return 0;
        }
        return length;
    }
    return 0;
}

/* Writes a text with U+FFFD for bytes that are not UTF-8, or only measures it. */
static size_t repair(const char *given, uint8_t *into) {
    size_t bytes = 0;
    for (const unsigned char *at = (const unsigned char *)given; *at;) {
        size_t length = character(at);
        const void *from = length ? (const void *)at : "\xEF\xBF\xBD";
        size_t size = length ? length : 3;
        if (into) memcpy(into + bytes, from, size);
        bytes += size;
        at += length ? length : 1;
    }
    return bytes;
}

text borrowed(const char *given) {
    for (const unsigned char *at = (const unsigned char *)given; *at;) {
        size_t length = character(at);
        if (!length) {
            text clean = {.len = repair(given, NULL)};
            clean.ptr = sh_allocate(clean.len, 1);
            repair(given, clean.ptr);
            return clean;
        }
        at += length;
    }
    return (text){(uint8_t *)(uintptr_t)given, strlen(given)};
}

text owned(const char *given) {
    text made = {.len = repair(given, NULL)};
    made.ptr = made.len ? malloc(made.len) : NULL;
    if (made.len && !made.ptr) abort();
    repair(given, made.ptr);
    return made;
}

const char *copied(text given) {
    char *made = sh_allocate(given.len + 1, 1);
    if (given.len) memcpy(made, given.ptr, given.len);
    return made;
}

const char *taken(text *given) {
    const char *made = copied(*given);
    scoring_script_string_free(given);
    return made;
}
