#include "train/language_grid.h"

#include <stdio.h>
#include <string.h>

enum { SEEDS_MAX = 64, ROWS_MAX = 256, SUBJECTS_MAX = 64, CODE_MAX = 16, TEXT_MAX = 4000 };

static const ConfigField SUBJECT_FIELDS[] = {
    {"title", CONFIG_STRING, offsetof(LanguageSubject, title), NULL, 0, 0, NULL, NULL,
     "what is drawn, in your language; stands above the grid"},
    {"prompts", CONFIG_STRING_MAP, offsetof(LanguageSubject, prompts), NULL, 0, 0, NULL, NULL,
     "language: caption; a row each"},
};
static const ConfigSchema SUBJECT_SCHEMA = {"subject", SUBJECT_FIELDS, sizeof SUBJECT_FIELDS / sizeof SUBJECT_FIELDS[0],
                                            sizeof(LanguageSubject)};
static const ConfigField FIELDS[] = {
    {"seeds", CONFIG_INT_LIST, offsetof(LanguageGrid, seeds), "[0, 1, 2, 3]", 0, 9e15, NULL, NULL,
     "of the noises, as --seed; a column each"},
    {"subjects", CONFIG_LIST, offsetof(LanguageGrid, subjects), NULL, 0, 0, NULL, &SUBJECT_SCHEMA, "a grid each"},
};
static const ConfigSchema SCHEMA = {"languages", FIELDS, sizeof FIELDS / sizeof FIELDS[0], sizeof(LanguageGrid)};

/* Languages name files, too. */
static bool is_code(const char *language)
{
    static const char LETTERS[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    const size_t length = strlen(language);
    return length > 0 && length <= CODE_MAX && strspn(language, LETTERS) == length;
}

static Status check_subject(const LanguageSubject *subject, size_t number, const Config *config)
{
    Status status = STATUS_OK;
    char key[128];
    snprintf(key, sizeof key, "subjects[%zu].title", number);
    if (!subject->title[0] || strlen(subject->title) > TEXT_MAX)
        FAIL_WITH(config_error(config, key, "has %zu bytes, 1 to %d are possible", strlen(subject->title), TEXT_MAX));
    snprintf(key, sizeof key, "subjects[%zu].prompts", number);
    if (subject->prompts.count == 0 || subject->prompts.count > ROWS_MAX)
        FAIL_WITH(config_error(config, key, "are %zu, 1 to %d are possible", subject->prompts.count, ROWS_MAX));
    for (size_t i = 0; i < subject->prompts.count; i++) {
        if (!is_code(subject->prompts.keys[i]))
            FAIL_WITH(config_error(config, key,
                                   "\"%.40s\" is no language code: 1 to %d letters, digits, - and _, such as en or "
                                   "pt-BR",
                                   subject->prompts.keys[i], CODE_MAX));
        if (strlen(subject->prompts.values[i]) > TEXT_MAX)
            FAIL_WITH(config_error(config, key, "%s: a caption of %zu bytes, at most %d are possible",
                                   subject->prompts.keys[i], strlen(subject->prompts.values[i]), TEXT_MAX));
    }
fail:
    return status;
}

static Status check(const LanguageGrid *grid, const Config *config)
{
    Status status = STATUS_OK;
    char key[64];
    if (grid->seeds.count == 0 || grid->seeds.count > SEEDS_MAX)
        FAIL_WITH(config_error(config, "seeds", "are %zu, 1 to %d are possible", grid->seeds.count, SEEDS_MAX));
    for (size_t i = 0; i < grid->seeds.count; i++)
        for (size_t j = 0; j < i; j++)
            if (grid->seeds.items[i] == grid->seeds.items[j]) {
                snprintf(key, sizeof key, "seeds[%zu]", i);
                FAIL_WITH(config_error(config, key, "%lld is there twice", (long long)grid->seeds.items[i]));
            }
    if (grid->subjects.count == 0 || grid->subjects.count > SUBJECTS_MAX)
        FAIL_WITH(config_error(config, "subjects",
                               "are %zu, 1 to %d are possible; write a list of {title: ..., prompts: {en: ...}}",
                               grid->subjects.count, SUBJECTS_MAX));
    for (size_t i = 0; i < grid->subjects.count; i++) TRY(check_subject(language_grid_subject(grid, i), i, config));
fail:
    return status;
}

Status language_grid_load(const char *path, const char *text, LanguageGrid *out, Config **config)
{
    Status status = STATUS_OK;
    TRY(config_load(path, text, &SCHEMA, NULL, 0, out, config));
    TRY(check(out, *config));
    return STATUS_OK;
fail:
    config_free(*config);
    *config = NULL;
    return status;
}

int64_t language_grid_pictures(const LanguageGrid *grid)
{
    int64_t rows = 0;
    for (size_t i = 0; i < grid->subjects.count; i++) rows += (int64_t)language_grid_subject(grid, i)->prompts.count;
    return rows * (int64_t)grid->seeds.count;
}

Status language_grid_dump(const LanguageGrid *grid, const LanguageSubject *subject, StrBuf *out)
{
    LanguageGrid dumped = *grid;
    if (subject) dumped.subjects = (ConfigList){(void *)subject, 1};
    return config_dump(&SCHEMA, &dumped, out);
}
