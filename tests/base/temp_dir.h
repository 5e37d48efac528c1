/* A folder for a test's files, removed with all that is in it at the end. */
#ifndef TESTS_BASE_TEMP_DIR_H
#define TESTS_BASE_TEMP_DIR_H

#include <stddef.h>

int temp_dir_setup(void **state);    /* cmocka group setup; NULL-safe state */
int temp_dir_teardown(void **state); /* cmocka group teardown */
/* The path of a name in the folder; one of 8 buffers that are used in turn. */
const char *temp_path(const char *name);
void temp_write(const char *name, const void *data, size_t size);

#endif
