// weir-load: loads an echo, HTTP or FTP server and reports rate, latency and errors.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "crew.h"
#include "report.h"

enum { MAIN_FAILED = 1, MAIN_WRONG_USAGE = 2, MAIN_SPARE_DESCRIPTORS = 64 };

static int main_fail(const char *text)
{
    fprintf(stderr, "weir-load: %s\n", text);
    return MAIN_FAILED;
}

// Every connection needs a descriptor; a churned one while its close has not ended, too.
static bool main_raise_limit(const struct options *options)
{
    struct rlimit limit;
    uint64_t needed = (uint64_t)options->connections * (options->churn ? 2 : 1) + options->idle +
                      MAIN_SPARE_DESCRIPTORS + 8 * options->threads;
    if (options->protocol == LOAD_FTP)
        needed += 2 * (uint64_t)options->connections + 2;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= needed)
        return true;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max >= needed)
        return true;
    fprintf(
        stderr,
        "weir-load: %llu descriptors are needed and %llu allowed: raise the limit (ulimit -Hn)\n",
        (unsigned long long)needed, (unsigned long long)limit.rlim_max);
    return false;
}

static bool main_prints_json(const struct options *options)
{
    return options->json && strcmp(options->json, "-") == 0;
}

// A run without a single answer, or with a wrong one, is no measurement.
static int main_report(const struct crew_result *result, FILE *json)
{
    if (json)
        report_print_json(result, json);
    if (json != stdout)
        report_print(result, stdout);
    bool written =
        (!json || (fflush(json) == 0 && !ferror(json))) && fflush(stdout) == 0 && !ferror(stdout);
    if (!written)
        return main_fail("cannot write the report");
    if (result->sum.failures[FAILURE_CORRUPT])
        return main_fail("replies differed from what was sent");
    if (result->sum.ops == 0 && !result->interrupted)
        return main_fail("no request was answered in the measured time");
    return 0;
}

// What is sent. -ENOMEM.
static int main_payload(const struct options *options, struct payload *ret_payload)
{
    size_t size = options->size ? options->size : 1; // ftp: as long as the server's files are
    if (options->protocol != LOAD_HTTP)
        return payload_init(ret_payload, options->seed, size, options->depth);
    char *request = malloc(options->size + 1);
    if (!request)
        return -ENOMEM;
    options_request_write(options, request, options->size + 1);
    int error = payload_init_repeated(ret_payload, request, options->size, options->depth);
    free(request);
    return error;
}

static int main_run(const struct options *options, FILE *json)
{
    char error[OPTIONS_ERROR_SIZE] = "";
    struct payload payload;
    struct crew *crew = NULL;
    sigset_t signals;
    // Threads inherit the mask; the crew reads the signals from a descriptor.
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (!main_raise_limit(options))
        return MAIN_FAILED;
    if (main_payload(options, &payload))
        return main_fail("out of memory");
    int failure = crew_run(options, &payload, &signals, &crew, error), status;
    if (failure) {
        main_fail(error);
        status = failure == -EINVAL ? MAIN_WRONG_USAGE : MAIN_FAILED;
    } else {
        status = main_report(crew_result(crew), json);
    }
    // The report is out: from here on a signal may end the program as it likes.
    sigprocmask(SIG_UNBLOCK, &signals, NULL);
    crew_destroy(crew);
    payload_fini(&payload);
    return status;
}

static int main_open_and_run(const struct options *options)
{
    FILE *json = NULL;
    if (main_prints_json(options)) {
        json = stdout;
    } else if (options->json && !(json = fopen(options->json, "w"))) {
        fprintf(stderr, "weir-load: cannot write %s: %s\n", options->json, strerror(errno));
        return MAIN_FAILED;
    }
    int status = main_run(options, json);
    if (json && json != stdout && fclose(json) != 0)
        status = main_fail("cannot write the report");
    return status;
}

int main(int count, char **arguments)
{
    char error[OPTIONS_ERROR_SIZE];
    struct options options;
    int status = 0;
    switch (options_parse(&options, count, arguments, error)) {
    case OPTIONS_RUN:
        status = main_open_and_run(&options);
        break;
    case OPTIONS_HELP:
        options_print_help(stdout);
        break;
    case OPTIONS_VERSION:
        puts("weir-load " WEIR_VERSION);
        break;
    case OPTIONS_WRONG:
        fprintf(stderr, "weir-load: %s\n", error);
        status = MAIN_WRONG_USAGE;
        break;
    }
    options_fini(&options);
    return status;
}
