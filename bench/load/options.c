// One table names every option, how its value is read, and its bounds.
#include "options.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "ftp.h"
#include "http_reply.h"

#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)
#define GIB (KIB * MIB)

#define OPTIONS_NOT_GIVEN UINT64_MAX
#define OPTIONS_DURATION_NS UINT64_C(5000000000)
#define OPTIONS_WARMUP_NS UINT64_C(1000000000)

struct option {
    const char *name;
    const char *value; // NULL: the option is a switch
    const char *help;
    // Reads the value into options; false after options_say().
    bool (*read)(const struct option *option, struct options *options, const char *text,
                 char *ret_error);
    size_t offset;
    double min, max;
    uint32_t protocols; // bits of enum load_protocol; 0: all
};

__attribute__((format(printf, 2, 3))) static bool options_say(char *ret_error, const char *format,
                                                              ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(ret_error, OPTIONS_ERROR_SIZE, format, arguments);
    va_end(arguments);
    return false;
}

// --- Values --------------------------------------------------------------------------------------

static void *options_member(const struct option *option, struct options *options)
{
    return (char *)options + option->offset;
}

static bool options_count(const struct option *option, struct options *options, const char *text,
                          char *ret_error)
{
    uint64_t number;
    if (!options_read_number(text, (uint64_t)option->min, (uint64_t)option->max, &number))
        return options_say(ret_error, "--%s: '%.60s' is not a number from %.0f to %.0f",
                           option->name, text, option->min, option->max);
    *(uint32_t *)options_member(option, options) = (uint32_t)number;
    return true;
}

static bool options_seed(const struct option *option, struct options *options, const char *text,
                         char *ret_error)
{
    if (options_read_number(text, 0, UINT64_MAX, &options->seed))
        return true;
    return options_say(ret_error, "--%s: '%.60s' is not a number", option->name, text);
}

static bool options_size(const struct option *option, struct options *options, const char *text,
                         char *ret_error)
{
    if (options_read_size(text, (uint64_t)option->min, (uint64_t)option->max,
                          options_member(option, options)))
        return true;
    return options_say(ret_error, "--%s: '%.60s' is not a size from 1 to 1024M (64, 16K, 1M)",
                       option->name, text);
}

// Words of a request line: no blank, no control character.
static bool options_request_word(const struct option *option, struct options *options,
                                 const char *text, char *ret_error)
{
    bool right = *text && strlen(text) < 1024;
    for (const char *at = text; *at; at++)
        right = right && *at > ' ' && *at < 0x7f;
    if (!right)
        return options_say(ret_error, "--%s: '%.60s' is not %s", option->name, text, option->value);
    *(const char **)options_member(option, options) = text;
    return true;
}

static bool options_seconds(const struct option *option, struct options *options, const char *text,
                            char *ret_error)
{
    if (options_read_seconds(text, option->min, option->max, options_member(option, options)))
        return true;
    return options_say(ret_error, "--%s: '%.60s' is not a time from %g to %g seconds", option->name,
                       text, option->min, option->max);
}

static bool options_rate(const struct option *option, struct options *options, const char *text,
                         char *ret_error)
{
    if (options_read_decimal(text, option->min, option->max, &options->rate))
        return true;
    return options_say(ret_error, "--%s: '%.60s' is not a rate from %g to %.0f requests per second",
                       option->name, text, option->min, option->max);
}

static bool options_switch(const struct option *option, struct options *options, const char *text,
                           char *ret_error)
{
    (void)text;
    (void)ret_error;
    *(bool *)options_member(option, options) = true;
    return true;
}

static bool options_text(const struct option *option, struct options *options, const char *text,
                         char *ret_error)
{
    if (!*text)
        return options_say(ret_error, "--%s: the value is empty", option->name);
    *(const char **)options_member(option, options) = text;
    return true;
}

// --- Words ---------------------------------------------------------------------------------------

struct word {
    const char *name;
    uint32_t value;
};

static const struct word options_protocol_words[] = {
    { "echo", LOAD_ECHO }, { "http", LOAD_HTTP }, { "ftp", LOAD_FTP }, { NULL, 0 }
};
static const struct word options_verify_words[] = {
    { "full", VERIFY_FULL }, { "sample", VERIFY_SAMPLE }, { "none", VERIFY_NONE }, { NULL, 0 }
};
static const struct word options_arrivals_words[] = { { "constant", ARRIVALS_CONSTANT },
                                                      { "poisson", ARRIVALS_POISSON },
                                                      { NULL, 0 } };
static const struct word options_operation_words[] = { { "login", FTP_LOGIN },
                                                       { "noop", FTP_NOOP },
                                                       { "retr", FTP_RETR },
                                                       { "stor", FTP_STOR },
                                                       { NULL, 0 } };
static const struct word options_engine_words[] = { { "auto", WEIR_ENGINE_AUTO },
                                                    { "uring", WEIR_ENGINE_URING },
                                                    { "epoll", WEIR_ENGINE_EPOLL },
                                                    { NULL, 0 } };

static const char *options_word_name(const struct word *words, uint32_t value)
{
    while (words->name && words->value != value)
        words++;
    return words->name;
}

const char *options_protocol_name(uint32_t protocol)
{
    return options_word_name(options_protocol_words, protocol);
}

const char *options_verify_name(uint32_t verify)
{
    return options_word_name(options_verify_words, verify);
}

const char *options_arrivals_name(uint32_t arrivals)
{
    return options_word_name(options_arrivals_words, arrivals);
}

const char *options_operation_name(uint32_t operation)
{
    return options_word_name(options_operation_words, operation);
}

static bool options_find_word(const struct word *words, const char *text, uint32_t *ret_value)
{
    for (; words->name; words++) {
        if (strcmp(words->name, text) == 0) {
            *ret_value = words->value;
            return true;
        }
    }
    return false;
}

static bool options_word(const struct option *option, const struct word *words, const char *text,
                         uint32_t *ret_value, char *ret_error)
{
    if (options_find_word(words, text, ret_value))
        return true;
    return options_say(ret_error, "--%s: '%.60s' is not one of %s", option->name, text,
                       option->value);
}

static bool options_verify(const struct option *option, struct options *options, const char *text,
                           char *ret_error)
{
    return options_word(option, options_verify_words, text, &options->verify, ret_error);
}

static bool options_arrivals(const struct option *option, struct options *options, const char *text,
                             char *ret_error)
{
    options->arrivals_given = true;
    return options_word(option, options_arrivals_words, text, &options->arrivals, ret_error);
}

static bool options_operation(const struct option *option, struct options *options,
                              const char *text, char *ret_error)
{
    return options_word(option, options_operation_words, text, &options->operation, ret_error);
}

static bool options_engine(const struct option *option, struct options *options, const char *text,
                           char *ret_error)
{
    return options_word(option, options_engine_words, text, &options->engine, ret_error);
}

// --- Lists and addresses -------------------------------------------------------------------------

// "0,2-3": the processors of the threads, in this order.
static bool options_cpus(const struct option *option, struct options *options, const char *text,
                         char *ret_error)
{
    const char *next = text;
    options->cpus_count = 0;
    for (;;) {
        uint64_t first, last;
        if (!options_read_digits(next, &next, &first))
            break;
        last = first;
        if (*next == '-' && !options_read_digits(next + 1, &next, &last))
            break;
        if (last < first || last >= CPU_SETSIZE ||
            options->cpus_count + (last - first) >= OPTIONS_CPUS_MAX)
            break;
        for (uint64_t cpu = first; cpu <= last; cpu++)
            options->cpus[options->cpus_count++] = (uint16_t)cpu;
        if (!*next)
            return true;
        if (*next++ != ',')
            break;
    }
    return options_say(ret_error, "--%s: '%.60s' is not a list of processors such as 0,2-3",
                       option->name, text);
}

static bool options_address_add(struct options *options, const struct weir_address *address)
{
    if (options->addresses_count == OPTIONS_ADDRESSES_MAX)
        return false;
    size_t size = (options->addresses_count + 1) * sizeof *address;
    struct weir_address *grown = realloc(options->addresses, size);
    if (!grown)
        return false;
    grown[options->addresses_count++] = *address;
    options->addresses = grown;
    return true;
}

// "127.1.0.1-127.1.0.128:7777": each address of an IPv4 range, both ends included.
static bool options_connect_range(struct options *options, const char *text, const char *dash)
{
    char first_text[INET_ADDRSTRLEN] = "";
    struct in_addr first;
    struct weir_address address;
    size_t length = (size_t)(dash - text);
    if (length >= sizeof first_text)
        return false;
    memcpy(first_text, text, length);
    if (inet_pton(AF_INET, first_text, &first) != 1 || weir_address_parse(dash + 1, &address) ||
        address.any.sa_family != AF_INET)
        return false;
    uint32_t low = ntohl(first.s_addr), high = ntohl(address.in.sin_addr.s_addr);
    if (low > high || high - low >= OPTIONS_ADDRESSES_MAX)
        return false;
    for (uint32_t i = 0; i <= high - low; i++) {
        address.in.sin_addr.s_addr = htonl(low + i);
        if (!options_address_add(options, &address))
            return false;
    }
    return true;
}

static bool options_connect(const struct option *option, struct options *options, const char *text,
                            char *ret_error)
{
    struct weir_address address;
    const char *dash = isdigit((unsigned char)*text) ? strchr(text, '-') : NULL;
    if (dash ? options_connect_range(options, text, dash)
             : !weir_address_parse(text, &address) && options_address_add(options, &address))
        return true;
    return options_say(ret_error,
                       "--%s: '%.60s' is not an address such as 127.0.0.1:7777, [::1]:7777, "
                       "unix:/path or 127.1.0.1-127.1.0.128:7777",
                       option->name, text);
}

static bool options_local(const struct option *option, struct options *options, const char *text,
                          char *ret_error)
{
    if (!weir_address_parse(text, &options->local) && options->local.any.sa_family != AF_UNIX)
        return true;
    return options_say(ret_error, "--%s: '%.60s' is not an address such as 127.0.0.2:0 or [::1]:0",
                       option->name, text);
}

// --- The table -----------------------------------------------------------------------------------

#define OPTION_MEMBER(member) offsetof(struct options, member)

static const struct option options_table[] = {
    { "connect", "ADDRESS", "where to; repeat it, or give a range, to spread the connections",
      options_connect, 0, 0, 0, 0 },
    { "connections", "N", "connections at the same time (default 1)", options_count,
      OPTION_MEMBER(connections), 1, 1000000, 0 },
    { "path", "/PATH", "what to ask for (default /)", options_request_word, OPTION_MEMBER(path), 0,
      0, 1U << LOAD_HTTP | 1U << LOAD_FTP },
    { "operation", "login|noop|retr|stor", "what is done over and over (default retr)",
      options_operation, 0, 0, 0, 1U << LOAD_FTP },
    { "files", "N", "{} in the path is a number from 0 to N - 1 (default 1)", options_count,
      OPTION_MEMBER(files), 1, 1000000, 1U << LOAD_FTP },
    { "user", "NAME", "who logs in (default anonymous)", options_request_word, OPTION_MEMBER(user),
      0, 0, 1U << LOAD_FTP },
    { "password", "TEXT", "and with what", options_request_word, OPTION_MEMBER(password), 0, 0,
      1U << LOAD_FTP },
    { "beside", "/PATH", "a further session downloads this all the time, uncounted",
      options_request_word, OPTION_MEMBER(beside), 0, 0, 1U << LOAD_FTP },
    { "method", "NAME", "how (default GET)", options_request_word, OPTION_MEMBER(method), 0, 0,
      1U << LOAD_HTTP },
    { "body-size", "S", "bytes of a request's body (default 0)", options_size,
      OPTION_MEMBER(body_size), 1, 1024.0 * MIB, 1U << LOAD_HTTP },
    { "pipeline", "N", "requests in flight on each connection (default 1)", options_count,
      OPTION_MEMBER(depth), 1, 65536, 1U << LOAD_HTTP },
    { "depth", "D", "requests in flight on each connection (default 1)", options_count,
      OPTION_MEMBER(depth), 1, 65536, 1U << LOAD_ECHO },
    { "size", "S", "bytes of a message (64) or file; K and M are 1024 and its square", options_size,
      OPTION_MEMBER(size), 1, 1024.0 * MIB, 1U << LOAD_ECHO | 1U << LOAD_FTP },
    { "duration", "S", "seconds that are measured (default 5)", options_seconds,
      OPTION_MEMBER(duration_ns), 0.01, 86400, 0 },
    { "warmup", "S", "seconds before that (default 1)", options_seconds, OPTION_MEMBER(warmup_ns),
      0, 3600, 0 },
    { "turns", NULL, "run when a line `run MILLISECONDS` comes on standard input, and rest",
      options_switch, OPTION_MEMBER(turns), 0, 0, 0 },
    { "threads", "N", "threads, each with its own loop (default 1)", options_count,
      OPTION_MEMBER(threads), 1, 256, 0 },
    { "cpu", "LIST", "processors of the threads, such as 0,2-3", options_cpus, 0, 0, 0, 0 },
    { "rate", "R", "open loop: requests per second, in all (default: closed loop)", options_rate, 0,
      0.001, 1e9, 0 },
    { "arrivals", "constant|poisson", "when they are due (default poisson)", options_arrivals, 0, 0,
      0, 0 },
    { "seed", "N", "of arrivals and payload (default 1)", options_seed, 0, 0, 0, 0 },
    { "churn", "OPS_PER_CONNECTION", "connect, so many echoes, close: one operation", options_count,
      OPTION_MEMBER(churn), 1, 1000000000, 0 },
    { "idle", "N", "further connections that stay silent (default 0)", options_count,
      OPTION_MEMBER(idle), 0, 1000000, 0 },
    { "timeout", "S", "a request that takes longer ends its connection (default: never)",
      options_seconds, OPTION_MEMBER(timeout_ns), 0.001, 3600, 0 },
    { "local", "ADDRESS", "connect from this address; port 0 leaves the port free", options_local,
      0, 0, 0, 0 },
    { "busy", NULL, "never sleep", options_switch, OPTION_MEMBER(busy), 0, 0, 0 },
    { "verify", "full|sample|none", "which replies are compared (default sample)", options_verify,
      0, 0, 0, 0 },
    { "engine", "auto|uring|epoll", "of this program (default auto)", options_engine, 0, 0, 0, 0 },
    { "uring", "SET", "io_uring features: default, default,-NAME, kernel-6.1, -6.8, -6.12",
      options_text, OPTION_MEMBER(uring_features), 0, 0, 0 },
    { "json", "FILE|-", "the whole result as JSON; - replaces the summary on standard output",
      options_text, OPTION_MEMBER(json), 0, 0, 0 },
};

enum { OPTIONS_COUNT = sizeof options_table / sizeof options_table[0] };

static bool options_fits(const struct option *option, uint32_t protocol)
{
    return !option->protocols || (option->protocols >> protocol & 1);
}

// The row of "--name" or "--name=value", or NULL.
static const struct option *options_find(const char *argument, uint32_t protocol)
{
    if (strncmp(argument, "--", 2) != 0)
        return NULL;
    size_t length = strcspn(argument + 2, "=");
    for (size_t i = 0; i < OPTIONS_COUNT; i++) {
        const char *name = options_table[i].name;
        if (options_fits(&options_table[i], protocol) && strlen(name) == length &&
            strncmp(name, argument + 2, length) == 0)
            return &options_table[i];
    }
    return NULL;
}

static void options_defaults(struct options *options)
{
    *options = (struct options){
        .connections = 1,
        .depth = 1,
        .size = 64,
        .method = "GET",
        .operation = FTP_RETR,
        .files = 1,
        .user = "anonymous",
        .password = "weir-load@",
        .path = "/",
        .duration_ns = OPTIONS_NOT_GIVEN,
        .warmup_ns = OPTIONS_NOT_GIVEN,
        .threads = 1,
        .arrivals = ARRIVALS_POISSON,
        .seed = 1,
        .verify = VERIFY_SAMPLE,
        .engine = WEIR_ENGINE_AUTO,
    };
}

static bool options_read_all(struct options *options, int count, char **arguments, char *ret_error)
{
    bool seen[OPTIONS_COUNT] = { false };
    for (int i = 2; i < count; i++) {
        const struct option *option = options_find(arguments[i], options->protocol);
        if (!option)
            return options_say(ret_error, "unknown option '%.60s' (see weir-load --help)",
                               arguments[i]);
        const char *text = strchr(arguments[i], '=');
        if (!option->value && text)
            return options_say(ret_error, "--%s takes no value", option->name);
        if (text)
            text++;
        else if (option->value && i + 1 < count)
            text = arguments[++i];
        else if (option->value)
            return options_say(ret_error, "--%s needs a value: %s", option->name, option->value);
        bool *again = &seen[option - options_table];
        if (*again && option->read != options_connect)
            return options_say(ret_error, "--%s is given twice", option->name);
        *again = true;
        if (!option->read(option, options, text, ret_error))
            return false;
    }
    return true;
}

// Uploads must not meet in one file, or none could be compared.
static bool options_check_ftp(const struct options *options, char *ret_error)
{
    bool several = options->connections > 1 || options->files > 1;
    if (options->operation == FTP_STOR && !options->size)
        return options_say(ret_error, "--operation stor needs the --size of its files");
    if (options->operation == FTP_STOR && several && !strstr(options->path, "{}"))
        return options_say(ret_error,
                           "--path: '%.60s' has no {}, the number that tells the files "
                           "of several sessions apart",
                           options->path);
    if (options->operation == FTP_LOGIN && options->churn)
        return options_say(ret_error, "--churn: with --operation login nothing else is done");
    if (options->beside && options->beside[0] != '/')
        return options_say(ret_error, "--beside: '%.60s' does not begin with a slash",
                           options->beside);
    for (uint32_t i = 0; i < options->addresses_count; i++)
        if (options->addresses[i].any.sa_family == AF_UNIX)
            return options_say(ret_error, "--connect: FTP needs an address of the internet");
    return true;
}

// Turns have their own times, and between them nothing may happen.
static bool options_check_turns(struct options *options, char *ret_error)
{
    bool timed =
        options->duration_ns != OPTIONS_NOT_GIVEN || options->warmup_ns != OPTIONS_NOT_GIVEN;
    if (options->turns && timed)
        return options_say(ret_error, "--turns has its times from standard input: no --duration "
                                      "and no --warmup");
    if (options->turns && (options->busy || options->beside))
        return options_say(ret_error, "--turns rests in between: no --busy and no --beside");
    if (options->duration_ns == OPTIONS_NOT_GIVEN)
        options->duration_ns = options->turns ? 0 : OPTIONS_DURATION_NS;
    if (options->warmup_ns == OPTIONS_NOT_GIVEN)
        options->warmup_ns = options->turns ? 0 : OPTIONS_WARMUP_NS;
    return true;
}

// What no single option can tell.
static bool options_check(const struct options *options, char *ret_error)
{
    if (!options->addresses_count)
        return options_say(ret_error, "--connect ADDRESS is missing (see weir-load --help)");
    if (options->threads > options->connections)
        return options_say(ret_error, "--threads %u needs at least as many --connections, not %u",
                           options->threads, options->connections);
    if ((uint64_t)options->connections * options->depth > 64 * MIB)
        return options_say(ret_error, "--connections times --depth is more than 67108864 requests");
    if (options->size * options->depth > 4 * GIB)
        return options_say(ret_error, "--size times --depth is more than 4096M per connection");
    if (options->path[0] != '/')
        return options_say(ret_error, "--path: '%.60s' does not begin with a slash", options->path);
    if (options->protocol == LOAD_FTP && !options_check_ftp(options, ret_error))
        return false;
    if (options->arrivals_given && options->rate <= 0)
        return options_say(ret_error, "--arrivals needs --rate: a closed loop has no schedule");
    if (options->uring_features && options->engine == WEIR_ENGINE_EPOLL)
        return options_say(ret_error, "--uring needs --engine uring or auto");
    for (uint32_t i = 0; options->local.size && i < options->addresses_count; i++)
        if (options->local.any.sa_family != options->addresses[i].any.sa_family)
            return options_say(ret_error, "--local and --connect are of different kinds");
    return true;
}

static bool options_read_protocol(struct options *options, int count, char **arguments,
                                  char *ret_error)
{
    if (options->protocol == LOAD_FTP)
        options->size = 0;
    if (!options_read_all(options, count, arguments, ret_error) ||
        !options_check(options, ret_error) || !options_check_turns(options, ret_error))
        return false;
    if (options->protocol == LOAD_HTTP)
        options->size = options_request_write(options, NULL, 0);
    if (options->protocol == LOAD_FTP && options->operation == FTP_LOGIN)
        options->churn = 1;
    options->idle += options->beside ? 1 : 0;
    return true;
}

enum options_result options_parse(struct options *options, int count, char **arguments,
                                  char ret_error[OPTIONS_ERROR_SIZE])
{
    options_defaults(options);
    for (int i = 1; i < count; i++)
        if (strcmp(arguments[i], "--help") == 0)
            return OPTIONS_HELP;
    if (count > 1 && strcmp(arguments[1], "--version") == 0)
        return OPTIONS_VERSION;
    bool right = false;
    if (count < 2)
        options_say(ret_error, "say what to measure: weir-load echo --connect ADDRESS");
    else if (!options_find_word(options_protocol_words, arguments[1], &options->protocol))
        options_say(ret_error, "unknown protocol '%.60s': echo, http and ftp are known",
                    arguments[1]);
    else
        right = options_read_protocol(options, count, arguments, ret_error);
    return right ? OPTIONS_RUN : OPTIONS_WRONG;
}

size_t options_request_write(const struct options *options, char *ret_text, size_t room)
{
    char host[WEIR_ADDRESS_TEXT_SIZE];
    weir_address_print(&options->addresses[0], host);
    return http_request_write(options->method, options->path,
                              strncmp(host, "unix:", 5) == 0 ? "localhost" : host,
                              options->body_size, ret_text, room);
}

void options_fini(struct options *options)
{
    free(options->addresses);
    options->addresses = NULL;
}

void options_print_help(FILE *file)
{
    fputs("usage: weir-load echo|http|ftp --connect ADDRESS [option ...]\n"
          "Loads an echo, HTTP or FTP server and reports rate, latency and errors.\n\n",
          file);
    for (size_t i = 0; i < OPTIONS_COUNT; i++) {
        char left[40];
        const struct option *option = &options_table[i];
        snprintf(left, sizeof left, "--%s%s%s", option->name, option->value ? " " : "",
                 option->value ? option->value : "");
        fprintf(file, "  %-28s %s", left, option->help);
        for (const struct word *word = options_protocol_words; option->protocols && word->name;
             word++) {
            if (options_fits(option, word->value))
                fprintf(file, " [%s]", word->name);
        }
        fputc('\n', file);
    }
    fputs("\n  --help, --version\n\n"
          "Exit status: 0 after a run, 1 when it failed or a reply was wrong, 2 for bad usage.\n",
          file);
}
