// One trial with the real programs: a fresh `weir echo`, one run of weir-load, and what it says.
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "micro.h"

enum { MACRO_OUTPUT_MAX = 4 << 20 };

struct macro_child {
    pid_t pid;
    FILE *output;
};

// Programs lie where the build puts them, seen from this one.
static bool macro_path(const char *name, char ret_path[PATH_MAX])
{
    ssize_t size = readlink("/proc/self/exe", ret_path, PATH_MAX - 1);
    if (size < 0)
        return false;
    ret_path[size] = '\0';
    char *slash = strrchr(ret_path, '/');
    size_t used = (size_t)(slash - ret_path);
    return (size_t)snprintf(slash, PATH_MAX - used, "/%s", name) < PATH_MAX - used;
}

static bool macro_start(const char *const *arguments, struct macro_child *ret_child)
{
    int ends[2];
    if (pipe(ends))
        return false;
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        // What a server says about itself would lie between the benchmarks' lines.
        if (!freopen("/dev/null", "w", stderr))
            _exit(126);
        execv(arguments[0], (char *const *)arguments);
        _exit(127);
    }
    close(ends[1]);
    FILE *output = pid > 0 ? fdopen(ends[0], "r") : NULL;
    if (!output) {
        close(ends[0]);
        return false;
    }
    *ret_child = (struct macro_child){ pid, output };
    return true;
}

// Whether it ended well.
static bool macro_end(struct macro_child *child)
{
    int status;
    fclose(child->output);
    return waitpid(child->pid, &status, 0) == child->pid && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

static double macro_cpu_ns(pid_t pid)
{
    clockid_t clock;
    struct timespec spent;
    if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &spent))
        return 0;
    return (double)spent.tv_sec * 1e9 + (double)spent.tv_nsec;
}

// The number behind `"key": ` after the place `after`; false where it is null or absent.
static bool macro_number(const char *text, const char *after, const char *key, double *ret_number)
{
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\": ", key);
    const char *at = after ? strstr(text, after) : text;
    at = at ? strstr(at, quoted) : NULL;
    char *end;
    if (!at)
        return false;
    at += strlen(quoted);
    double number = strtod(at, &end);
    if (end == at)
        return false;
    *ret_number = number;
    return true;
}

static bool macro_load(const char *address, double rate, double seconds, char *text)
{
    char program[PATH_MAX], duration[32], rate_text[32];
    if (!macro_path("../load/weir-load", program))
        return false;
    snprintf(duration, sizeof duration, "%.3f", seconds);
    snprintf(rate_text, sizeof rate_text, "%.0f", rate);
    const char *arguments[] = { program,
                                "echo",
                                "--connect",
                                address,
                                "--connections",
                                "64",
                                "--warmup",
                                "0",
                                "--duration",
                                duration,
                                "--json",
                                "-",
                                rate > 0 ? "--rate" : NULL,
                                rate_text,
                                NULL };
    struct macro_child load;
    if (!macro_start(arguments, &load))
        return false;
    size_t size = fread(text, 1, MACRO_OUTPUT_MAX - 1, load.output);
    text[size] = '\0';
    return macro_end(&load);
}

static bool macro_measure(pid_t server, const char *address, double rate, double seconds,
                          struct micro_trial *ret_trial)
{
    char *text = malloc(MACRO_OUTPUT_MAX);
    double before = macro_cpu_ns(server);
    bool right = text && macro_load(address, rate, seconds, text);
    double spent = macro_cpu_ns(server) - before, ops, ops_per_s, errors = 1;
    struct micro_trial trial = { 0 };
    if (right && macro_number(text, NULL, "ops", &ops) && ops > 0 &&
        macro_number(text, NULL, "ops_per_s", &ops_per_s) &&
        macro_number(text, "\"errors\": ", "total", &errors) && errors == 0) {
        trial.ns_per_op = 1e9 / ops_per_s;
        trial.cpu_ns_per_op = spent / ops;
        const char *kind = rate > 0 ? "\"response\": " : "\"service\": ";
        if (!macro_number(text, kind, "p99", &trial.p99_ns))
            trial.p99_ns = 0;
        *ret_trial = trial;
    } else {
        right = false;
    }
    free(text);
    return right;
}

bool micro_trial_run(const char *engine, double rate, double seconds, struct micro_trial *ret_trial)
{
    char program[PATH_MAX], address[128], line[256];
    if (!macro_path("../../servers/weir", program))
        return false;
    const char *arguments[] = {
        program, "echo", "--listen", "127.0.0.1:0", "--engine", engine, NULL
    };
    struct macro_child server;
    if (!macro_start(arguments, &server))
        return false;
    bool right = fgets(line, sizeof line, server.output) &&
                 sscanf(line, "listening echo %127s", address) == 1 &&
                 macro_measure(server.pid, address, rate, seconds, ret_trial);
    kill(server.pid, SIGTERM);
    return macro_end(&server) && right;
}
