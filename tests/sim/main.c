// weir-sim: plays simulated runs. One seed is one run, byte for byte; docs/testing.md tells more.
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "replay.h"

static const char main_usage[] =
    "usage: weir-sim --protocol NAME --seed N [--trace]     play one seed\n"
    "       weir-sim --protocol NAME --seeds COUNT          play seeds from 1 on, or --seed N\n"
    "       weir-sim --protocol NAME --seconds S            play seeds as long as that\n"
    "\n"
    "  --protocol NAME   echo (default), file, http or ftp\n"
    "  --seed N          the seed, or the first one\n"
    "  --trace           print all that happens\n"
    "  --until-failure   stop at the first seed that fails\n"
    "  --help\n"
    "\n"
    "Exit status: 0 if all held, 1 if a seed failed, 2 for bad usage.\n";

struct main_options {
    const struct run_protocol *protocol;
    uint64_t seed, seeds, duration_ns;
    bool trace, until_failure;
};

static bool main_number(const char *text, uint64_t least, uint64_t most, uint64_t *ret_number)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno || end == text || *end || text[0] == '-' || number < least || number > most)
        return false;
    *ret_number = number;
    return true;
}

static bool main_option(struct main_options *options, int option, const char *value)
{
    switch (option) {
    case 'p':
        options->protocol = run_protocol_find(value);
        return options->protocol != NULL;
    case 's':
        return main_number(value, 0, UINT64_MAX, &options->seed);
    case 'n':
        return main_number(value, 1, UINT64_MAX, &options->seeds);
    case 'd':
        if (!main_number(value, 1, 1000000, &options->duration_ns))
            return false;
        options->duration_ns *= 1000000000;
        return true;
    case 't':
        options->trace = true;
        return true;
    case 'u':
        options->until_failure = true;
        return true;
    default:
        return false;
    }
}

// 0, or the exit status plus one.
static int main_parse(int argc, char **argv, struct main_options *ret_options)
{
    static const struct option names[] = {
        { "protocol", required_argument, NULL, 'p' }, { "seed", required_argument, NULL, 's' },
        { "seeds", required_argument, NULL, 'n' },    { "seconds", required_argument, NULL, 'd' },
        { "trace", no_argument, NULL, 't' },          { "until-failure", no_argument, NULL, 'u' },
        { "help", no_argument, NULL, 'h' },           { 0 },
    };
    *ret_options = (struct main_options){ .protocol = run_protocol_find("echo"), .seed = 1 };
    for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        if (option == 'h') {
            fputs(main_usage, stdout);
            return 1;
        }
        if (!main_option(ret_options, option, optarg)) {
            fputs(main_usage, stderr);
            return 3;
        }
    }
    if (optind < argc || argc < 2) {
        fputs(main_usage, stderr);
        return 3;
    }
    return 0;
}

static int main_play_one(const struct main_options *options, struct run *run)
{
    bool held = replay_seed(run, options->protocol, options->seed, options->trace ? stdout : NULL);
    if (held)
        run_describe(run, stdout);
    else
        replay_explain(run, stdout);
    printf("%s: trace %016llx\n", held ? "all held" : "failed", (unsigned long long)run->hash);
    return held ? 0 : 1;
}

static int main_play_many(const struct main_options *options, struct run *run)
{
    uint64_t start_ns = weir_clock_now(), told_ns = start_ns, played = 0, failed = 0, turns = 0;
    uint64_t now_ns = start_ns;
    while (played < options->seeds || now_ns - start_ns < options->duration_ns) {
        uint64_t seed = options->seed + played++;
        if (!replay_seed(run, options->protocol, seed, NULL)) {
            replay_explain(run, stdout);
            fflush(stdout);
            failed++;
            if (options->until_failure)
                break;
        }
        turns += run->turns;
        now_ns = weir_clock_now();
        if (now_ns - told_ns < 1000000000)
            continue;
        told_ns = now_ns;
        fprintf(stderr, "%6.0f s: seed %llu, %llu runs, %llu turns, %llu failed\n",
                (double)(now_ns - start_ns) / 1e9, (unsigned long long)seed,
                (unsigned long long)played, (unsigned long long)turns, (unsigned long long)failed);
    }
    printf("%s: %llu seeds from %llu on, %llu failed\n", options->protocol->name,
           (unsigned long long)played, (unsigned long long)options->seed,
           (unsigned long long)failed);
    return failed ? 1 : 0;
}

int main(int argc, char **argv)
{
    static struct run run;
    struct main_options options;
    int stop = main_parse(argc, argv, &options);
    if (stop)
        return stop - 1;
    if (options.seeds || options.duration_ns)
        return main_play_many(&options, &run);
    return main_play_one(&options, &run);
}
