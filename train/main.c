/* The program: finds the subcommand, runs it, and ends the process. Nothing else ends it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "train/command.h"
#include "train/versions.h"

static const Command *const commands[] = {&command_train,
                                          &command_sample,
                                          &command_validate,
                                          &command_device,
                                          &command_plan,
                                          &command_precompute,
                                          &command_bench_step,
                                          &command_bench_autoencoder,
                                          &command_bench_comm,
                                          &command_bench_data,
                                          &command_probe_unet,
                                          &command_probe_vae_encode,
                                          &command_probe_vae_decode,
                                          &command_probe_xlmr_clip,
                                          &command_probe_mt5,
                                          &command_probe_tokenize,
                                          &command_data_order,
                                          &command_data_stats,
                                          &command_data_index,
                                          &command_data_show,
                                          &command_data_masks,
                                          &command_import,
                                          &command_inspect,
                                          &command_export,
                                          &command_checkpoint_list,
                                          &command_checkpoint_verify,
                                          &command_checkpoint_prune,
                                          &command_checkpoint_convert,
                                          &command_run_report,
                                          &command_compare,
                                          &command_config};
enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

static void print_overview(FILE *to)
{
    fprintf(to, "vasily trains multilingual text-to-image diffusion models.\n\nusage: vasily COMMAND ...\n\n");
    for (int i = 0; i < COMMAND_COUNT; i++) fprintf(to, "  %-18s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(to, "\n`vasily COMMAND --help` explains one; `vasily --version` lists the libraries in use.\n");
}

static Status print_help(const Command *command)
{
    Status status = STATUS_OK;
    StrBuf text = {0};
    TRY(strbuf_printf(&text, "vasily %s: %s\n\nusage: vasily %s %s\n\n%s\noptions:\n", command->name, command->summary,
                      command->name, command->usage, command->details));
    TRY(command_describe_options(command, &text));
    fputs(text.data, stdout);
fail:
    strbuf_free(&text);
    return status;
}

static Status print_version(void)
{
    Status status = STATUS_OK;
    StrBuf text = {0};
    TRY(versions_describe(&text));
    fputs(text.data, stdout);
fail:
    strbuf_free(&text);
    return status;
}

/* Words of the command line that a command's name takes up; 0 when it is another one. */
static int match(const Command *command, int argc, char **argv)
{
    const char *space = strchr(command->name, ' ');
    if (argc < 1) return 0;
    if (!space) return strcmp(argv[0], command->name) == 0;
    size_t first = (size_t)(space - command->name);
    if (strlen(argv[0]) != first || strncmp(argv[0], command->name, first) != 0) return 0;
    return argc > 1 && strcmp(argv[1], space + 1) == 0 ? 2 : 0;
}

/* The only command whose first word this is ("vasily bench --help"), or NULL. */
static const Command *begins_with(const char *word)
{
    for (int i = 0; i < COMMAND_COUNT; i++) {
        const char *space = strchr(commands[i]->name, ' ');
        if (space && strlen(word) == (size_t)(space - commands[i]->name) &&
            strncmp(word, commands[i]->name, strlen(word)) == 0)
            return commands[i];
    }
    return NULL;
}

static Status find_command(int argc, char **argv, const Command **out, int *words)
{
    Status status = STATUS_OK;
    const char *names[COMMAND_COUNT];
    for (int i = 0; i < COMMAND_COUNT; i++) {
        names[i] = commands[i]->name;
        *words = match(commands[i], argc, argv);
        if (*words) {
            *out = commands[i];
            return STATUS_OK;
        }
    }
    const Command *whole = begins_with(argv[0]);
    if (whole && args_want_help(argc, argv)) {
        *out = whole;
        *words = 1;
        return STATUS_OK;
    }
    if (whole) FAIL(ERR_USAGE, "vasily %s: did you mean `vasily %s`?", argv[0], whole->name);
    const char *near = args_nearest(argv[0], names, COMMAND_COUNT);
    if (near) FAIL(ERR_USAGE, "there is no command \"%s\"; did you mean `vasily %s`?", argv[0], near);
    FAIL(ERR_USAGE, "there is no command \"%s\"; `vasily help` lists them", argv[0]);
fail:
    return status;
}

static Status run_command(const Command *command, int argc, char **argv, CommandCall *call)
{
    Status status = STATUS_OK;
    call->command = command;
    TRY(arena_create(&call->arena));
    TRY(command_parse(call, argc, argv));
    if (command->parallel) {
        TRY(comm_open(&call->comm));
        log_configure(LOG_INFO, comm_rank(call->comm), comm_world(call->comm));
    }
    TRY(command->run(call));
fail:
    return status;
}

/* Libraries should not end the program, but HDF5 does where its first allocation in a call fails. */
static bool ends_in_order;

static void tell_of_library(void)
{
    if (!ends_in_order) log_error("a library has ended the program by itself, likely for want of memory");
}

/* Prints the failure and ends the program, and with it every rank of the job. */
static int end(Status status, CommandCall *call)
{
    ends_in_order = true;
    int code = status ? status_exit_code(status) : call->exit_code;
    if (status) {
        command_report(call, status);
        fflush(NULL);
        if (call->comm && comm_world(call->comm) > 1) comm_abort(call->comm, code);
    }
    comm_close(call->comm);
    arena_free(call->arena);
    return fflush(stdout) ? 3 : code;
}

int main(int argc, char **argv)
{
    CommandCall call = {0};
    const Command *command = NULL;
    int words = 0;
    atexit(tell_of_library);
    if (argc < 2) {
        print_overview(stderr);
        ends_in_order = true;
        return 2;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "version") == 0) return end(print_version(), &call);
    bool help = strcmp(argv[1], "help") == 0;
    if ((help && argc == 2) || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_overview(stdout);
        return end(STATUS_OK, &call);
    }
    int skip = help ? 2 : 1;
    Status status = find_command(argc - skip, argv + skip, &command, &words);
    if (status) return end(status, &call);
    skip += words;
    if (help || args_want_help(argc - skip, argv + skip)) return end(print_help(command), &call);
    return end(run_command(command, argc - skip, argv + skip, &call), &call);
}
