#include "replay.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

static char replay_command[RUN_TEXT];

static void replay_on_signal(int number)
{
    ssize_t written = write(STDERR_FILENO, replay_command, strlen(replay_command));
    (void)written;
    signal(number, SIG_DFL);
    raise(number);
}

bool replay_seed(struct run *run, const struct run_protocol *protocol, uint64_t seed, FILE *trace)
{
    snprintf(replay_command, sizeof replay_command,
             "  replay: weir-sim --protocol %s --seed %llu --trace\n", protocol->name,
             (unsigned long long)seed);
    signal(SIGABRT, replay_on_signal);
    signal(SIGSEGV, replay_on_signal);
    return run_seed(run, protocol, seed, trace);
}

void replay_explain(const struct run *run, FILE *file)
{
    run_describe(run, file);
    fprintf(file, "  %s\n%s", run->complaint, replay_command);
}
