/* vasily probe tokenize: the ids of captions, line by line. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/json.h"
#include "data/tokenizer.h"
#include "train/command.h"

static const char *const STYLE_WORDS[] = {"xlmr", "mt5", "mt5-bytes", NULL}; /* TokenizerStyle */

typedef struct TokenizeArguments {
    const char *model;
    int32_t style;
    int64_t max_tokens;
} TokenizeArguments;

typedef struct Lines {
    Tokenizer *tokenizer;
    FILE *in;
    const char *in_name;
    char *line, *row; /* getline's; a row of ids as text */
    size_t capacity;
    int32_t *ids, *mask;
    int tokens;
} Lines;

static Status set_up(Lines *lines, const CommandCall *call)
{
    Status status = STATUS_OK;
    const TokenizeArguments *arguments = call->options;
    if (!arguments->model || arguments->style < 0 || call->positional.count > 1)
        FAIL(ERR_USAGE, "usage: vasily probe tokenize %s", call->command->usage);
    lines->tokens = (int)arguments->max_tokens;
    TRY(tokenizer_open(arguments->model, (TokenizerStyle)arguments->style, lines->tokens, &lines->tokenizer));
    lines->in = stdin;
    lines->in_name = "standard input";
    if (call->positional.count == 1 && strcmp(call->positional.items[0], "-") != 0) {
        lines->in_name = call->positional.items[0];
        lines->in = fopen(lines->in_name, "r");
        if (!lines->in) FAIL(ERR_IO, "%s: %s", lines->in_name, strerror(errno));
    }
    lines->ids = mem_alloc_array((size_t)lines->tokens, sizeof *lines->ids);
    lines->mask = mem_alloc_array((size_t)lines->tokens, sizeof *lines->mask);
    lines->row = mem_alloc_array((size_t)lines->tokens, 12);
    if (!lines->ids || !lines->mask || !lines->row) FAIL(ERR_MEMORY, "out of memory for %d tokens", lines->tokens);
fail:
    return status;
}

/* Decimal digits of an id that is not negative; returns where they end. */
static char *put_id(char *to, int32_t id)
{
    char digits[12];
    int count = 0;
    do digits[count++] = (char)('0' + id % 10);
    while ((id /= 10) > 0);
    while (count > 0) *to++ = digits[--count];
    return to;
}

static Status write_row(const Lines *lines)
{
    Status status = STATUS_OK;
    char *to = lines->row;
    for (int i = 0; i < lines->tokens; i++) {
        to = put_id(to, lines->ids[i]);
        *to++ = i + 1 < lines->tokens ? ' ' : '\n';
    }
    size_t size = (size_t)(to - lines->row);
    if (fwrite(lines->row, 1, size, stdout) != size) FAIL(ERR_IO, "standard output: %s", strerror(errno));
fail:
    return status;
}

static Status run(CommandCall *call)
{
    Status status = STATUS_OK;
    Lines lines = {0};
    TRY(set_up(&lines, call));
    ssize_t size;
    for (int64_t number = 1; (size = getline(&lines.line, &lines.capacity, lines.in)) >= 0; number++) {
        if (size > 0 && lines.line[size - 1] == '\n') size--;
        const char *caption = lines.line;
        size_t length = (size_t)size;
        if (number == 1) utf8_skip_mark(&caption, &length);
        status = tokenizer_encode(lines.tokenizer, caption, length, lines.ids, lines.mask);
        if (status) status_prefix("%s, line %lld: ", lines.in_name, (long long)number);
        TRY(status);
        TRY(write_row(&lines));
    }
    if (ferror(lines.in)) FAIL(ERR_IO, "%s: %s", lines.in_name, strerror(errno));
fail:
    if (lines.in && lines.in != stdin) fclose(lines.in);
    tokenizer_free(lines.tokenizer);
    free(lines.line);
    free(lines.row);
    free(lines.ids);
    free(lines.mask);
    return status;
}

static const ArgSpec options[] = {
    {"model", ARG_TEXT, offsetof(TokenizeArguments, model), "FILE", "the SentencePiece model", 0, 0, NULL},
    {"style", ARG_WORD, offsetof(TokenizeArguments, style), "xlmr|mt5|mt5-bytes",
     "the layout of the ids (data.tokenizer1.style)", 0, 0, STYLE_WORDS},
    {"max-tokens", ARG_INT, offsetof(TokenizeArguments, max_tokens), "N",
     "ids of a caption, special tokens and padding included (default 77)", 3, 4096, NULL},
};
static const TokenizeArguments defaults = {.style = -1, .max_tokens = 77};

const Command command_probe_tokenize = {
    .name = "probe tokenize",
    .summary = "the token ids of captions, for parity checks",
    .usage = "--model FILE --style xlmr|mt5|mt5-bytes [--max-tokens N] [CAPTIONS]",
    .details = "Reads captions, one a line, from the file CAPTIONS or from standard input, and writes each one's ids "
               "as a line:\n"
               "with special tokens, cut and padded to N.\n",
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(TokenizeArguments),
    .defaults = &defaults,
    .run = run,
};
