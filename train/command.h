/* The subcommands: one row each. main.c finds the row, answers --help from it, parses the options and runs it. */
#ifndef TRAIN_COMMAND_H
#define TRAIN_COMMAND_H

#include "base/arena.h"
#include "base/status.h"
#include "engine/comm.h"
#include "train/args.h"

struct Command;
struct Config;
struct RunConfig;

/* What a command gets. */
typedef struct CommandCall {
    const struct Command *command;
    Comm *comm;    /* the world; NULL where the command is not parallel */
    Arena *arena;  /* for as long as the command runs */
    void *options; /* the command's own struct, filled */
    ArgTexts positional;
    int exit_code; /* set by a command that ends well but not with 0 */
    bool reported; /* by command_report */
} CommandCall;

typedef struct Command {
    const char *name;    /* one word, or two: "data order" */
    const char *summary; /* one line */
    const char *usage;   /* the positional arguments */
    const char *details; /* paragraphs for --help */
    ArgTable table;
    size_t options_size;
    const void *defaults; /* options_size bytes */
    bool parallel;        /* runs under mpirun: gets a Comm */
    bool computes;        /* takes --device, which is short for the override device.name=... */
    Status (*run)(CommandCall *call);
    /* Loads the config as the command uses it, its arguments and options checked and heeded; for `vasily config --for`.
     * NULL: it is not asked. */
    Status (*load)(CommandCall *call, struct RunConfig *config, struct Config **file);
} Command;

extern const Command command_train;
extern const Command command_sample;
extern const Command command_validate;
extern const Command command_device, command_plan;
extern const Command command_precompute;
extern const Command command_probe_unet;
extern const Command command_probe_vae_encode;
extern const Command command_probe_vae_decode;
extern const Command command_probe_xlmr_clip;
extern const Command command_probe_mt5;
extern const Command command_probe_tokenize;
extern const Command command_data_order;
extern const Command command_data_stats;
extern const Command command_data_index;
extern const Command command_data_show;
extern const Command command_data_masks;
extern const Command command_bench_step;
extern const Command command_bench_autoencoder;
extern const Command command_bench_comm;
extern const Command command_bench_data;
extern const Command command_import;
extern const Command command_inspect;
extern const Command command_export;
extern const Command command_checkpoint_list, command_checkpoint_verify;
extern const Command command_checkpoint_prune, command_checkpoint_convert;
extern const Command command_config;
extern const Command command_run_report, command_compare;

/* The positional arguments are `fixed` ones, then overrides "key.path=value". ERR_USAGE says what is missing or not an
 * override. */
Status command_arguments(const CommandCall *call, size_t fixed, const char *const **overrides, size_t *override_count);

/* Parses the options, --device among them, into call->options and call->positional; call->command and call->arena are
 * set. */
Status command_parse(CommandCall *call, int argc, char **argv);
/* Logs why the command fails: the message, and of a bug the trail. Main does it for every command; one that cleans up
 * at length, or lets other ranks end, does it before, and it is done once. Nothing with STATUS_OK. */
void command_report(CommandCall *call, Status status);
/* The options as lines of help. */
Status command_describe_options(const Command *command, StrBuf *out);

#define COMMAND_TABLE(specs)                      \
    {                                             \
        (specs), sizeof(specs) / sizeof(specs)[0] \
    }

#endif
