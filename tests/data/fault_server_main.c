/* fault_server FOLDER [--port N] [--seed N] [--stall-seconds S] [--busy-seconds N] [--no-range] [--no-validator]
 *              [--gone WORD] [--truncated WORD] [--corrupt WORD] [--FAULT SHARE]...
 *
 * Serves FOLDER on 127.0.0.1 until standard input ends; prints the port. FAULT: stall, cut, flip, error, busy, missing,
 * refuse, longer, shorter, drip, whole, redirect, other; SHARE: of requests, 0 to 1. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fault_server.h"

static bool set_share(FaultOptions *options, const char *name, const char *value)
{
    for (int f = 0; f < FAULT_COUNT; f++)
        if (strcmp(name, FAULT_NAMES[f]) == 0) {
            options->share[f] = atof(value);
            return true;
        }
    return false;
}

static bool set_option(FaultOptions *options, int *port, const char *name, const char *value)
{
    if (strcmp(name, "port") == 0)
        *port = atoi(value);
    else if (strcmp(name, "seed") == 0)
        options->seed = strtoull(value, NULL, 10);
    else if (strcmp(name, "stall-seconds") == 0)
        options->stall_seconds = atof(value);
    else if (strcmp(name, "busy-seconds") == 0)
        options->busy_seconds = atoi(value);
    else if (strcmp(name, "gone") == 0)
        options->gone = value;
    else if (strcmp(name, "truncated") == 0)
        options->truncated = value;
    else if (strcmp(name, "corrupt") == 0)
        options->corrupt = value;
    else
        return set_share(options, name, value);
    return true;
}

int main(int argc, char **argv)
{
    FaultOptions options = {.stall_seconds = 60, .busy_seconds = 1};
    int port = 0, i = 2;
    char byte;
    bool good = argc >= 2 && argv[1][0] != '-';
    while (good && i < argc) {
        if (strcmp(argv[i], "--no-range") == 0)
            options.no_range = true, i++;
        else if (strcmp(argv[i], "--no-validator") == 0)
            options.no_validator = true, i++;
        else {
            good =
                strncmp(argv[i], "--", 2) == 0 && i + 1 < argc && set_option(&options, &port, argv[i] + 2, argv[i + 1]);
            i += 2;
        }
    }
    if (!good) {
        fprintf(stderr, "usage: fault_server FOLDER [--port N] [--seed N] [--FAULT SHARE]...\n");
        return 2;
    }
    FaultServer *server = fault_server_start(argv[1], port, &options);
    if (!server) {
        perror("fault_server");
        return 1;
    }
    printf("%d\n", fault_server_port(server));
    fflush(stdout);
    while (read(0, &byte, 1) > 0) {
    }
    fault_server_stop(server);
    return 0;
}
