#include "replay.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { REPLAY_PATH = 4096 };

static char replay_command[RUN_TEXT + REPLAY_PATH];

// weir-sim lies beside every program that plays seeds.
static void replay_name(const struct run_protocol *protocol, uint64_t seed)
{
    char path[REPLAY_PATH];
    ssize_t size = readlink("/proc/self/exe", path, sizeof path);
    while (size > 0 && path[size - 1] != '/')
        size--;
    snprintf(replay_command, sizeof replay_command,
             "  replay: %.*sweir-sim --protocol %s --seed %llu --trace\n", size > 0 ? (int)size : 0,
             path, protocol->name, (unsigned long long)seed);
}

static void replay_on_signal(int number)
{
    ssize_t written = write(STDERR_FILENO, replay_command, strlen(replay_command));
    (void)written;
    signal(number, SIG_DFL);
    raise(number);
}

bool replay_seed(struct run *run, const struct run_protocol *protocol, uint64_t seed, FILE *trace)
{
    replay_name(protocol, seed);
    signal(SIGABRT, replay_on_signal);
    signal(SIGSEGV, replay_on_signal);
    return run_seed(run, protocol, seed, trace);
}

void replay_explain(const struct run *run, FILE *file)
{
    run_describe(run, file);
    fprintf(file, "  %s\n%s", run->complaint, replay_command);
}
