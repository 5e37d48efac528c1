#include "train/signals.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t wished[WISH_COUNT];
static volatile sig_atomic_t interrupts;

static void on_signal(int number)
{
    switch (number) {
    case SIGUSR2:
        wished[WISH_SAVE] = 1;
        break;
    case SIGINT:
        wished[WISH_STOP] = 1;
        if (++interrupts > 1) _exit(130);
        break;
    default:
        wished[WISH_REQUEUE] = 1;
        break;
    }
}

static const int caught[] = {SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

Status signals_install(void)
{
    Status status = STATUS_OK;
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++)
        if (sigaction(caught[i], &action, NULL))
            FAIL(ERR_INTERNAL, "signal %d cannot be caught: %s", caught[i], strerror(errno));
fail:
    return status;
}

void signals_remove(void)
{
    for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++) signal(caught[i], SIG_DFL);
}

bool signals_ask_for_end(void)
{
    return wished[WISH_STOP] || wished[WISH_REQUEUE];
}

void signals_take(double wishes[WISH_COUNT])
{
    for (int i = 0; i < WISH_COUNT; i++) {
        wishes[i] = wished[i];
        wished[i] = 0;
    }
}
